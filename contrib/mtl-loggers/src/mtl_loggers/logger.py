"""What the loggers have in common: they open when the first epoch has ended, and close when the run has."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mtl_core import MtlError, RunFolder, hookimpl, parse_toml, read_toml

if TYPE_CHECKING:
    from mtl_core import FinishedRun
    from mtl_loggers.sinks import Sink

_ABOUT = ("epoch", "event")
"""What a record says beside its values; the epoch is the step of each value."""


class Logger:
    """A plugin that hands each epoch's record to a :class:`mtl_loggers.sinks.Sink`."""

    package: ClassVar[str]
    """The package that writes, and the extra that requires it."""
    sink: Sink | None = None

    @hookimpl
    def setup(self) -> None:
        if find_spec(self.package) is None:
            raise MtlError(f'{self.package}: not installed; pip install "mtl-loggers[{self.package}]"')

    @hookimpl
    def after_epoch(self, run_folder: Path, record: Mapping[str, Any]) -> None:
        epoch = int(record["epoch"]) + 1
        if self.sink is None:
            settings = parse_toml(read_toml(RunFolder(run_folder).experiment), str(run_folder))
            self.sink = self.open(str(run_folder), f"{settings['name']}-{settings['seed']}", epoch)
            self.sink.settings(_flat(settings))
        self.sink.values(_scalars(record), epoch)

    @hookimpl
    def after_run(self, run: FinishedRun) -> None:
        """Log the test metrics; where nothing was trained, such as in ``mtl evaluate``, nothing is open."""
        if self.sink is None:
            return
        results = RunFolder(run.folder).results
        if results.is_file():
            record = json.loads(results.read_text(encoding="utf-8"))
            found = {f"{record['split']}/{name}": value for name, value in record["metrics"].items()}
            self.sink.values(_scalars(found), int(record["epoch"]))
        self.sink.close()
        self.sink = None

    def open(self, run_folder: str, name: str, first: int) -> Sink:
        """Begin, or go on with, what the run's folder belongs to.

        :param name: of the run
        :param first: the epoch from which values follow, from 1; what is there of it and of later ones is obsolete
        """
        raise NotImplementedError


def _scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a record."""
    numbers = {name: value for name, value in record.items() if type(value) in (int, float) and name not in _ABOUT}
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as ``plugins.name.option`` → value."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
