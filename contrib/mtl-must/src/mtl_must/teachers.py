"""One teacher: what it is made with, whether what lies in its folder was, its training and its labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from mtl_core import (
    MAY_CHANGE,
    CheckpointError,
    Experiment,
    RunFolder,
    differences,
    dump_experiment,
    load_experiment,
    parse_experiment,
    to_json,
    train,
    write_text,
)
from mtl_must.pseudo import label_file, teacher_run, write_labels

_FREE = tuple(key for key in MAY_CHANGE if key != "epochs")
"""Settings that do not change a teacher. A finished one is not trained further: its labels would change with it."""


@attrs.frozen
class Teacher:
    """One task's teacher and the pseudo-labels that it makes.

    :param experiment: of one task
    :param place: the folder ``must`` of the student's run
    :param confidence: as the plugin's option
    :param flip_tolerance: as the plugin's option
    """

    experiment: Experiment
    place: Path
    confidence: float
    flip_tolerance: float | None

    @property
    def task(self) -> str:
        return self.experiment.tasks[0]

    @property
    def run(self) -> RunFolder:
        return teacher_run(self.place, self.task)

    @property
    def labels(self) -> Path:
        return label_file(self.place, self.task)

    @property
    def record(self) -> Path:
        """What the labels were made with; written before them."""
        return self.labels.with_suffix(".json")

    @property
    def done(self) -> bool:
        return self.labels.is_file() and self.record.is_file()

    def _rules(self) -> dict[str, float | str]:
        tolerance = self.flip_tolerance
        return {"confidence": self.confidence, "flip_tolerance": "none" if tolerance is None else tolerance}

    def check(self) -> None:
        """Refuse what lies in the folder if other settings made it.

        :raises CheckpointError: it names the folder or file, and each setting with both values
        """
        if self.run.experiment.is_file():
            before = load_experiment(self.run.experiment)
            _refuse(self.run.folder, "this teacher was started", differences(before, self.experiment, _FREE))
        if self.done:
            _refuse(self.labels, "these pseudo-labels were made", self._changes())

    def _changes(self) -> list[str]:
        old = json.loads(self.record.read_text(encoding="utf-8"))
        before = parse_experiment(old["teacher"], str(self.record), folder=self.run.folder)
        rules = [f"{key} was {old[key]}, now {new}" for key, new in self._rules().items() if old[key] != new]
        return rules + differences(before, self.experiment, _FREE)

    def teach(self) -> None:
        """Train it, unless it is trained, and let it label every training image."""
        with _said_of(self.task):
            if not self.run.results.is_file():
                train(self.experiment, self.run.folder, resume=True)
            if not self.record.is_file():
                self.labels.unlink(missing_ok=True)  # labels without a record: nobody knows how they were made
            write_text(self.record, to_json(self._rules() | {"teacher": dump_experiment(self.experiment)}, indent=2))
            write_labels(self.experiment, self.run, self.place, self.confidence, self.flip_tolerance)


def _refuse(path: Path, what: str, changed: Sequence[str]) -> None:
    if changed:
        raise CheckpointError(
            f"{path}: {what} with other settings ({'; '.join(changed)}); go on with those, or choose another --out"
        )


@contextmanager
def _said_of(task: str) -> Iterator[None]:
    """Errors say which teacher they are of."""
    try:
        yield
    except Exception as error:
        error.add_note(f'teacher of "{task}"')
        raise
