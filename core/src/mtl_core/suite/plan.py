"""A suite file, and the runs that it asks for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import attrs
import tomlkit
from attrs import field
from attrs.validators import deep_iterable, ge, gt

from mtl_core.discovery import installed
from mtl_core.errors import ExperimentError, nearest
from mtl_core.experiment import is_name
from mtl_core.kinds import describe
from mtl_core.options import read
from mtl_core.plugin import help
from mtl_core.run import Run
from mtl_core.settings import dump_experiment, parse, parse_experiment, read_text, split
from mtl_core.suite.sets import Kind, for_task

Document = dict[str, Any]
TABLES = ("experiments", "scenarios", "defaults", "engine")


@attrs.define(kw_only=True, eq=False)
class Engine:
    """Where and how the runs of a suite are processed; submitit carries it out."""

    cluster: Literal["local", "slurm"] = field(
        default="local", metadata=help("processes on this machine, or jobs of a Slurm cluster")
    )
    parallel: int = field(default=1, validator=ge(1), metadata=help("runs at a time"))
    hours: float = field(default=72.0, validator=gt(0.0), metadata=help("time limit of a job; it goes on in a new one"))
    cpus: int = field(default=1, validator=ge(1), metadata=help("CPU threads per process"))
    gpus: int = field(default=0, validator=ge(0), metadata=help("GPUs per machine"))
    partition: str | None = field(default=None, metadata=help("Slurm's partition"))
    memory_gb: float | None = field(default=None, metadata=help("Slurm: memory per machine"))


@attrs.define(kw_only=True, eq=False)
class Settings:
    """The settings of a suite itself."""

    name: str = field(validator=is_name, metadata=help("name of the suite, and of its folder"))
    title: str = field(default="", metadata=help("title of the table"))
    folder: str | None = field(default=None, metadata=help("folder of its runs; none: runs/NAME"))
    seeds: tuple[int, ...] = field(
        default=(0,), validator=deep_iterable(ge(0)), metadata=help("every experiment is run with each of them")
    )
    reference: str | None = field(default=None, metadata=help("experiment that Δ% refers to; none: the first"))
    metrics: tuple[str, ...] = field(
        default=(), metadata=help("columns, task/metric; a task's first is what Δ% uses; none: one per task")
    )


@attrs.define(kw_only=True, eq=False)
class Entry:
    """What an experiment's table in a suite may hold beside the settings of the experiment."""

    title: str = field(default="", metadata=help("name of the row"))
    file: str | None = field(default=None, metadata=help("experiment file to begin with, beside the suite's file"))
    each_task: tuple[str, ...] = field(default=(), metadata=help("tasks; one run for each alone, one row together"))
    each_primary: tuple[str, ...] = field(
        default=(), metadata=help("tasks; one run with each as the primary, one row together")
    )
    vary: dict[str, tuple[Any, ...]] = field(factory=dict, metadata=help("setting → values; one run for each"))
    choose_on: str | None = field(
        default=None, metadata=help("validation metric that the best of the varied runs is chosen by")
    )
    only: tuple[str, ...] = field(default=(), metadata=help("scenarios that it is run in; empty: all"))


@attrs.frozen
class Job:
    """One run of a suite.

    :param row: its experiment in the suite
    :param part: what tells the runs of one row and seed apart (a task, values of ``vary``), or ""
    :param text: the experiment as TOML, complete
    """

    row: str
    scenario: str
    seed: int
    part: str
    folder: Path
    text: str

    @property
    def title(self) -> str:
        return " ".join(filter(None, (self.scenario, self.row, self.part, f"seed {self.seed}")))

    @property
    def done(self) -> bool:
        return Run(self.folder).results.is_file()


@attrs.define(eq=False)
class Suite:
    """A suite that was read: settings, rows and jobs, seed by seed."""

    source: Path
    settings: Settings
    engine: Engine
    entries: dict[str, Entry]
    scenarios: dict[str, str]
    jobs: list[Job]

    @property
    def folder(self) -> Path:
        return Path(self.settings.folder or Path("runs") / self.settings.name)

    @property
    def reference(self) -> str:
        return self.settings.reference or next(iter(self.entries))

    def set_engine(self, **changed: Any) -> None:
        """Change settings of the engine; None leaves one as it is.

        :raises ExperimentError: a value that does not fit
        """
        given = {key: value for key, value in changed.items() if value is not None}
        values, problems = read(Engine, attrs.asdict(self.engine) | given, "engine")
        if problems:
            raise ExperimentError(str(self.source), problems)
        self.engine = Engine(**values)


def load_suite(path: Path | str, overrides: Sequence[str] = (), folder: Path | None = None) -> Suite:
    """Read a suite file and every experiment in it.

    :param overrides: ``KEY=VALUE`` for every experiment that has the key's plugin
    :param folder: where the runs go, instead of the file's
    :raises ExperimentError: with every mistake in the suite, or in its first faulty experiment
    """
    path = Path(path)
    document = with_base(path)
    tables = {name: document.pop(name, {}) for name in TABLES}
    settings, problems = read(Settings, document)
    engine, wrong = read(Engine, tables["engine"], "engine")
    entries, bodies, wrong_entries = read_entries(tables["experiments"])
    problems += wrong + wrong_entries + check(settings, tables, entries)
    if problems:
        raise ExperimentError(str(path), problems)
    names = {key: str(table.pop("title", key)) for key, table in tables["scenarios"].items()} or {"": ""}
    suite = Suite(path, Settings(**settings), Engine(**engine), entries, names, [])
    if folder is not None:
        suite.settings.folder = str(folder)
    suite.jobs = list(plan(suite, bodies, tables, overrides))
    check_overrides(suite, overrides)
    return suite


def with_base(path: Path, above: Sequence[Path] = ()) -> Document:
    """A suite's document, laid over those of the files that its ``base`` names, the last of them on top."""
    document = parse(read_text(path), str(path))
    base = document.pop("base", [])
    names = [base] if isinstance(base, str) else base
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ExperimentError(str(path), [f"base: expected a file or a list of files, found {describe(base)}"])
    if path.resolve() in above:
        raise ExperimentError(str(path), ["base: the files name each other in a circle"])
    below = [with_base(path.parent / name, (*above, path.resolve())) for name in names]
    return merged(*below, document)


def read_entries(tables: object) -> tuple[dict[str, Entry], dict[str, Document], list[str]]:
    """Rows of the suite, and what is left of their tables: the experiments' own settings."""
    if not isinstance(tables, Mapping) or not all(isinstance(t, Mapping) for t in tables.values()) or not tables:
        return {}, {}, ["experiments: expected a table for each experiment, such as [experiments.NAME]"]
    entries, bodies, problems = {}, {}, []
    own = attrs.fields_dict(Entry)
    for name, table in tables.items():
        values, wrong = read(Entry, {k: v for k, v in table.items() if k in own}, f"experiments.{name}")
        problems += wrong
        entries[name] = Entry(**values) if not wrong else Entry()
        bodies[name] = {k: v for k, v in table.items() if k not in own}
    return entries, bodies, problems


def check(settings: Mapping[str, Any], tables: Mapping[str, Any], entries: Mapping[str, Entry]) -> list[str]:
    """References from one table to another."""
    problems = []
    reference = settings.get("reference")
    if reference and reference not in entries:
        problems.append(f'reference: no experiment "{reference}" in the suite{nearest(reference, entries)}')
    for name in ("scenarios", "defaults"):
        if not isinstance(tables[name], Mapping):
            problems.append(f"{name}: expected a table")
    scenarios = tables["scenarios"] if isinstance(tables["scenarios"], Mapping) else {}
    for name, entry in entries.items():
        for scenario in set(entry.only) - set(scenarios):
            problems.append(f'experiments.{name}.only: no scenario "{scenario}"{nearest(scenario, scenarios)}')
        if entry.each_task and entry.each_primary:
            problems.append(f"experiments.{name}: each_task and each_primary exclude each other")
    return problems


def plan(suite: Suite, bodies: Mapping[str, Document], tables: Mapping[str, Any], sets: Sequence[str]) -> Iterator[Job]:
    """Every run, all rows of the first seed before those of the next."""
    found = installed()
    for seed, scenario, (name, entry) in itertools.product(
        suite.settings.seeds, suite.scenarios, suite.entries.items()
    ):
        if entry.only and scenario not in entry.only:
            continue
        base = merged(tables["defaults"], from_file(suite, entry), tables["scenarios"].get(scenario, {}), bodies[name])
        for label, document in variations(entry, base):
            source = f"{suite.source}: experiments.{name}"
            document |= {"name": name, "seed": seed}
            own = [override for override in sets if concerns(override, document)]
            whole = dump_experiment(parse_experiment(tomlkit.dumps(document), source, own, found))
            for task in entry.each_task or entry.each_primary or ("",):
                part = "/".join(filter(None, (label, task)))
                folder = suite.folder / scenario / f"{name}-{seed}" / part
                yield Job(name, scenario, seed, part, folder, text_for(whole, entry, task))


def text_for(text: str, entry: Entry, task: str) -> str:
    """The experiment of one task's part of a row."""
    if not task:
        return text
    kind: Kind = "task" if entry.each_task else "primary"
    return tomlkit.dumps(for_task(parse(text, task), kind, task))


def from_file(suite: Suite, entry: Entry) -> Document:
    if entry.file is None:
        return {}
    path = suite.source.parent / entry.file
    return parse(read_text(path), str(path))


def merged(*tables: Mapping[str, Any]) -> Document:
    """Tables laid over each other, the last on top; tables in them are merged too."""
    found: Document = {}
    for table in tables:
        for key, value in table.items():
            both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
            found[key] = merged(found[key], value) if both else deepcopy(value)
    return found


def variations(entry: Entry, base: Document) -> Iterator[tuple[str, Document]]:
    """The experiments that ``vary`` makes of one row: (what tells them apart, the document)."""
    for values in itertools.product(*entry.vary.values()):
        chosen = dict(zip(entry.vary, values, strict=True))
        document = deepcopy(base)
        for key, value in chosen.items():
            put(document, key, value)
        yield ",".join(f"{key.split('.')[-1]}={folder_name(value)}" for key, value in chosen.items()), document


def folder_name(value: object) -> str:
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def put(document: Document, key: str, value: object) -> None:
    *above, last = split(key)
    table = document
    for step in above:
        table = table.setdefault(step, {})
    table[last] = value


def concerns(override: str, document: Document) -> bool:
    """Whether an experiment has the plugin that an override names; what names none concerns all."""
    steps = split(override.partition("=")[0])
    return steps[0] != "plugins" or len(steps) < 2 or steps[1] in document.get("plugins", {})


def check_overrides(suite: Suite, overrides: Sequence[str]) -> None:
    documents = [parse(job.text, job.row) for job in suite.jobs]
    known = sorted({name for document in documents for name in document["plugins"]})
    for override in overrides:
        if not any(concerns(override, document) for document in documents):
            name = split(override.partition("=")[0])[1]
            found = nearest(name, known) or f" (they have: {', '.join(known)})"
            raise ExperimentError(str(suite.source), [f'--set {override}: no experiment has a plugin "{name}"{found}'])
