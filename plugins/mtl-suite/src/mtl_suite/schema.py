"""What the tables of a suite file may hold."""

from __future__ import annotations

from typing import Any, Literal

import attrs
from attrs import field
from attrs.validators import deep_iterable, ge, gt

from mtl_core import help, is_name


def _distinct(instance: object, attribute: object, value: tuple[int, ...]) -> None:
    if len(set(value)) < len(value):
        raise ValueError(f"expected every seed once, found {list(value)}")


@attrs.define(kw_only=True, eq=False)
class Engine:
    """Where and how the runs of a suite are processed; submitit carries it out."""

    cluster: Literal["local", "slurm"] = field(
        default="local", metadata=help("processes on this machine, or jobs of a Slurm cluster")
    )
    parallel: int = field(default=1, validator=ge(1), metadata=help("runs at a time"))
    hours: float = field(default=72.0, validator=gt(0.0), metadata=help("time limit of a job; it goes on in a new one"))
    cpus: int = field(default=1, validator=ge(1), metadata=help("CPU threads per process"))
    gpus: int = field(default=0, validator=ge(0), metadata=help("GPUs per machine; 0: all of this one, none of Slurm"))
    partition: str | None = field(default=None, metadata=help("Slurm's partition"))
    memory_gb: float | None = field(default=None, metadata=help("Slurm: memory per machine"))


@attrs.define(kw_only=True, eq=False)
class Settings:
    """The settings of a suite itself."""

    name: str = field(validator=is_name, metadata=help("name of the suite, and of its folder"))
    title: str = field(default="", metadata=help("title of the table"))
    folder: str | None = field(default=None, metadata=help("folder of its runs; none: runs/NAME"))
    seeds: tuple[int, ...] = field(
        default=(0,),
        validator=[deep_iterable(ge(0)), _distinct],
        metadata=help("every experiment is run with each of them"),
    )
    reference: str | None = field(default=None, metadata=help("experiment that Δ% refers to; none: the first"))
    metrics: tuple[str, ...] = field(
        default=(), metadata=help("columns, task/metric; a task's first is what Δ% uses; none: one per task")
    )


@attrs.define(kw_only=True, eq=False)
class Scenario:
    """What a scenario's table may hold beside the settings of its experiments."""

    title: str = field(default="", metadata=help("title of its section of the table"))
    reference: str | None = field(
        default=None, metadata=help("scenario whose row of the reference experiment Δ% refers to; none: its own")
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
