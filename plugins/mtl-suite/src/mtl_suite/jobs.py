"""One run of a suite, and how far its folder has come. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from mtl_core import RunFolder


@attrs.frozen
class Job:
    """One run of a suite.

    :param row: its experiment in the suite
    :param part: what distinguishes the runs of one row and seed (a task, values of ``vary``), or ""
    :param text: the experiment as TOML, complete
    :param epochs: the experiment's
    """

    row: str
    scenario: str
    seed: int
    part: str
    folder: Path
    text: str
    epochs: int

    @property
    def title(self) -> str:
        return " ".join(filter(None, (self.scenario, self.row, self.part, f"seed {self.seed}")))

    @property
    def done(self) -> bool:
        """Whether the folder's results are those of all epochs, or of a run that ended early by itself."""
        run = RunFolder(self.folder)
        return evaluated_epochs(run) >= self.epochs or (run.results.is_file() and _stopped(run))


def _stopped(run: RunFolder) -> bool:
    """Whether a run ended before its last epoch, without progress or because a plugin asked for it."""
    *_, last = run.history() or [{}]
    return bool(last.get("stopped"))


def evaluated_epochs(run: RunFolder) -> int:
    """Epochs of training behind ``results.json``; 0 where there is none that can be read."""
    try:
        record = json.loads(run.results.read_text(encoding="utf-8"))
        # `mtl evaluate` may have evaluated best.ckpt since, whose epoch is another
        return int(record["epoch"]) if record["checkpoint"] == "last" else len(run.history())
    except (OSError, ValueError, KeyError, TypeError):
        return 0
