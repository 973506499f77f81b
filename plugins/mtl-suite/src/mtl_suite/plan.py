"""A suite that was read from its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from mtl_core import ExperimentError, anchor_files, nearest, read_document, read_options
from mtl_suite.documents import split_tables
from mtl_suite.existing_runs import check_runs
from mtl_suite.expand import check_overrides, expanded
from mtl_suite.jobs import Job
from mtl_suite.schema import Engine, Entry, Scenario, Settings

_TABLES = ("experiments", "scenarios", "defaults", "engine")


@attrs.define(eq=False)
class Suite:
    """A suite that was read: settings, rows and jobs, seed by seed."""

    source: Path
    settings: Settings
    engine: Engine
    entries: dict[str, Entry]
    scenarios: dict[str, Scenario]
    jobs: list[Job]

    @property
    def folder(self) -> Path:
        return Path(self.settings.folder or Path("runs") / self.settings.name)

    @property
    def reference(self) -> str:
        return self.settings.reference or next(iter(self.entries))

    def set_reference(self, name: str | None) -> None:
        """Let Δ% refer to another experiment; None leaves it as it is.

        :raises ExperimentError: the suite has no such experiment
        """
        if problems := _check_reference("--reference", name, self.entries):
            raise ExperimentError(str(self.source), problems)
        self.settings.reference = name or self.settings.reference

    def set_engine(self, **changed: Any) -> None:
        """Change settings of the engine; None leaves one as it is.

        :raises ExperimentError: a value that does not fit
        """
        given = {key: value for key, value in changed.items() if value is not None}
        values, problems = read_options(Engine, attrs.asdict(self.engine) | given, "engine")
        if problems:
            raise ExperimentError(str(self.source), problems)
        self.engine = Engine(**values)


def load_suite(
    path: Path | str,
    overrides: Sequence[str] = (),
    folder: Path | None = None,
    seeds: Sequence[int] | None = None,
) -> Suite:
    """Read a suite file and every experiment in it.

    :param overrides: ``KEY=VALUE`` for every experiment that has the key's plugin
    :param folder: where the runs go, instead of the file's
    :param seeds: in place of the file's
    :raises ExperimentError: with every mistake in the suite, or in its first faulty experiment
    :raises CheckpointError: the folder holds runs of other settings
    """
    path = Path(path)
    document = anchor_files(read_document(path), path.parent)
    tables = {name: document.pop(name, {}) for name in _TABLES}
    document |= {} if seeds is None else {"seeds": list(seeds)}
    settings, problems = read_options(Settings, document)
    engine, wrong_engine = read_options(Engine, tables["engine"], "engine")
    entries, rows, wrong_rows = split_tables(Entry, tables["experiments"] or None, "experiments")
    scenarios, settings_of, wrong_scenarios = split_tables(Scenario, tables["scenarios"], "scenarios")
    problems += wrong_engine + wrong_rows + wrong_scenarios + _check(settings, tables["defaults"], entries, scenarios)
    if problems:
        raise ExperimentError(str(path), problems)
    suite = Suite(path, Settings(**settings), Engine(**engine), entries, scenarios or {"": Scenario()}, [])
    if folder is not None:
        suite.settings.folder = str(folder)
    suite.jobs = list(expanded(suite, tables["defaults"], settings_of, rows, overrides))
    check_overrides(suite, overrides)
    check_runs(suite.jobs)
    return suite


def _check(
    settings: Mapping[str, Any], defaults: object, entries: Mapping[str, Entry], scenarios: Mapping[str, Scenario]
) -> list[str]:
    """References from one table to another."""
    problems = _check_reference("reference", settings.get("reference"), entries)
    if not isinstance(defaults, Mapping):
        problems.append("defaults: expected a table")
    for name, scenario in scenarios.items():
        problems += _check_scenarios(f"scenarios.{name}.reference", [scenario.reference or name], scenarios)
    for name, entry in entries.items():
        problems += _check_scenarios(f"experiments.{name}.only", entry.only, scenarios)
        if entry.each_task and entry.each_primary:
            problems.append(f"experiments.{name}: each_task and each_primary exclude each other")
    return problems


def _check_reference(key: str, name: str | None, entries: Mapping[str, Entry]) -> list[str]:
    if not name or name in entries:
        return []
    return [f'{key}: no experiment "{name}" in the suite{nearest(name, entries)}']


def _check_scenarios(key: str, names: Sequence[str], known: Mapping[str, Scenario]) -> list[str]:
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    return [f'{key}: no scenario "{name}"{nearest(name, known)}' for name in unknown]
