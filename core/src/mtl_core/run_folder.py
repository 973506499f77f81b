"""The folder of a run: file names, lock, atomic writes, history. Imports no torch."""

from __future__ import annotations

import itertools
import json
import math
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import attrs
from filelock import FileLock, Timeout

from mtl_core.errors import CheckpointError


class Steps(NamedTuple):
    """Optimizer steps of some epochs: how many were taken, and how many were skipped."""

    taken: int
    skipped: int


def skipped_steps(run: RunFolder) -> str:
    """One sentence on the steps that the last epoch skipped, or an empty string."""
    taken, skipped = run.steps(last=1)
    if not skipped:
        return ""
    return (
        f"{skipped} of {taken + skipped} steps of the last epoch were skipped, their gradients were not finite; lower"
        " learning_rate or set clip"
    )


@attrs.frozen
class RunFolder:
    """One training's folder.

    ``experiment.toml`` every setting, defaults included; ``versions.json`` of every plugin; ``labels.npz`` the label
    mask; ``metrics.jsonl`` one line per epoch; ``warnings.jsonl`` what was reported meanwhile; ``last.ckpt``,
    ``best.ckpt``; ``results.json`` the final metrics; ``pictures/``; ``report.html``; ``.lock``, held while a process
    trains here.
    """

    folder: Path = attrs.field(converter=Path)

    @property
    def experiment(self) -> Path:
        return self.folder / "experiment.toml"

    @property
    def labels(self) -> Path:
        return self.folder / "labels.npz"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def results(self) -> Path:
        return self.folder / "results.json"

    @property
    def warnings(self) -> Path:
        return self.folder / "warnings.jsonl"

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    def checkpoint(self, name: str = "last") -> Path:
        return self.folder / f"{name}.ckpt"

    def require(self) -> RunFolder:
        """This run, if it is one.

        :raises CheckpointError: the folder holds no run
        """
        if not self.experiment.is_file():
            raise CheckpointError(
                f"{self.folder}: not a run folder (no experiment.toml);"
                " expected the folder that `mtl train --out` wrote"
            )
        return self

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder; the lock goes when this process does, however it ends.

        :raises CheckpointError: another process trains in the folder
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            # the operating system frees it when the process ends, even by SIGKILL: no stale lock is left
            lock.acquire(blocking=False)
        except Timeout:
            raise CheckpointError(
                f"{self.folder}: another process is training in this folder; wait for it, or choose another --out"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def is_locked(self) -> bool:
        """Whether another process trains in the folder at this moment."""
        if not (self.folder / ".lock").is_file():
            return False
        try:
            with FileLock(self.folder / ".lock", blocking=False):
                return False
        except Timeout:
            return True

    def clear_remains(self) -> None:
        """Remove what a killed process left: half-written files, and the label mask of a run that never began."""
        for part in self.folder.glob(".*.part"):
            part.unlink(missing_ok=True)
        if not self.experiment.is_file() and not self.checkpoint().is_file():
            self.labels.unlink(missing_ok=True)
            self.warnings.unlink(missing_ok=True)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line to ``metrics.jsonl``."""
        with _naming(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(to_json(record) + "\n")

    def warn(self, epoch: int, message: str) -> None:
        """Note a warning in ``warnings.jsonl``, once.

        :param epoch: the epochs that were done, 0 before the first has ended
        """
        if message not in [known["message"] for known in self.warned()]:
            with self.warnings.open("a", encoding="utf-8") as file:
                file.write(to_json({"epoch": epoch, "message": message}) + "\n")

    def warned(self) -> list[dict[str, Any]]:
        """The warnings so far; lines that cannot be read are left out."""
        if not self.warnings.is_file():
            return []
        found = list[dict[str, Any]]()
        for line in self.warnings.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict) and isinstance(record.get("message"), str):
                    found.append(record)
        return found

    def history(self) -> list[dict[str, Any]]:
        """The epochs logged so far; a half-written last line is left out."""
        if not self.metrics.is_file():
            return []
        try:
            # without what follows the last line break: a process that was killed may have left half a line
            lines = self.metrics.read_text(encoding="utf-8").split("\n")[:-1]
        except UnicodeDecodeError as error:
            raise self._damaged_metrics(0, "it is not a text file") from error
        return [self._record(number, line) for number, line in enumerate(lines, 1) if line.strip("\0 ")]

    def _record(self, number: int, line: str) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._damaged_metrics(number, "it is not JSON") from error
        if not isinstance(record, dict) or not _is_epoch(record):
            raise self._damaged_metrics(number, "it is not the record of an epoch")
        return record

    def _damaged_metrics(self, line: int, reason: str) -> CheckpointError:
        return CheckpointError(
            f"{self.metrics}:{line}: {reason}; expected one line of JSON for each epoch, as `mtl train` writes them;"
            " put the file back, or remove the line and go on with --resume"
        )

    def steps(self, last: int | None = None) -> Steps:
        """Optimizer steps of the last epochs, or of all that are logged."""
        history = self.history()
        accumulate = 1
        if self.experiment.is_file():
            accumulate = tomllib.loads(self.experiment.read_text(encoding="utf-8")).get("accumulate", 1)
        # `step` counts micro-batches, and the last optimizer step of an epoch may have fewer than `accumulate`
        ends = [0, *(record.get("step", 0) for record in history)]
        counts = [math.ceil((end - begin) / accumulate) for begin, end in itertools.pairwise(ends)]
        skips = [round(record.get("skipped_steps") or 0) for record in history]
        first = 0 if last is None else max(0, len(history) - last)
        skipped = sum(skips[first:])
        return Steps(sum(counts[first:]) - skipped, skipped)

    def cut(self, epochs: int) -> None:
        """Keep the first ``epochs`` epochs of ``metrics.jsonl``: a resume writes the others again."""
        kept = [record for record in self.history() if record["epoch"] < epochs]
        write_text(self.metrics, "".join(to_json(record) + "\n" for record in kept))


def _is_epoch(record: Mapping[str, Any]) -> bool:
    """Whether what is computed with has the types that it needs."""
    counts = (record.get("epoch"), record.get("step", 0))
    amounts = (record.get("seconds") or 0.0, record.get("skipped_steps") or 0.0)
    return all(type(count) is int for count in counts) and all(type(amount) in (int, float) for amount in amounts)


def to_json(record: Mapping[str, Any], indent: int | None = None) -> str:
    """JSON without NaN and infinity, which are not JSON: null."""
    return json.dumps(plain_json(record), indent=indent, ensure_ascii=False, allow_nan=False)


def plain_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: plain_json(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _naming(path: Path, part: Path | None = None) -> Iterator[None]:
    """Let errors of the system name a file by the name that a reader knows; a full disk names none.

    :param part: what the file is called while it is written
    """
    try:
        yield
    except OSError as error:
        if error.filename is None or error.filename == str(part):
            error.filename = str(path)
            error.filename2 = None
        raise


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that a reader sees the old one or the new one, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # in the same folder, since a rename is atomic within one file system only
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _naming(path, part):
            write(part)
            with part.open("rb+") as file:
                # before the rename: after a power cut the new name must not lead to an empty file
                os.fsync(file.fileno())
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
