"""One experiment as a set of runs that make one row together: each task alone, or each task as the primary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import tomlkit

from mtl_core import Experiment, ExperimentError, dump_experiment, parse_experiment, parse_toml

_Document = dict[str, Any]

Kind = Literal["task", "primary"]


def each(experiment: Experiment, kind: Kind) -> dict[str, Experiment]:
    """Task → the run that gives its metrics.

    :param kind: ``"task"``: every run learns one task (single-task learning); ``"primary"``: every run has another
        primary task
    :raises ExperimentError: no plugin of the experiment has a primary task
    """
    from mtl_core import open_hooks

    names = experiment.tasks or open_hooks(experiment).build_dataset("train").tasks.names
    return {name: _one(experiment, kind, name) for name in names}


def _one(experiment: Experiment, kind: Kind, task: str) -> Experiment:
    document = parse_toml(dump_experiment(experiment, anchored=True), experiment.name)
    document = for_task(document, kind, task) | {"name": f"{experiment.name}-each-{kind}"}
    return parse_experiment(tomlkit.dumps(document), f"{experiment.name}, {kind} {task}")


def for_task(document: _Document, kind: Kind, task: str) -> _Document:
    """The document of one run of the set."""
    return _alone(document, task) if kind == "task" else _with_primary(document, task)


def _alone(document: Mapping[str, Any], task: str) -> _Document:
    """The experiment with one task, which is the primary one wherever a plugin has such an option."""
    return {**document, "plugins": _led_by(document["plugins"], task), "tasks": [task], "counts_for": [task]}


def _with_primary(document: Mapping[str, Any], task: str) -> _Document:
    """The experiment with another primary task, in every plugin that has the option.

    :raises ExperimentError: no plugin has it
    """
    plugins = document["plugins"]
    if not any("primary" in table for table in plugins.values()):
        raise ExperimentError(
            str(document.get("name", "experiment")),
            [f'each primary: no plugin of the experiment has an option "primary" (it has: {", ".join(plugins)})'],
        )
    return {**document, "plugins": _led_by(plugins, task), "counts_for": [task]}


def _led_by(plugins: Mapping[str, Mapping[str, Any]], task: str) -> _Document:
    """Plugins' tables with another primary task."""
    return {name: {**table, **({"primary": task} if "primary" in table else {})} for name, table in plugins.items()}
