"""Options of tasks that ``--set`` changes after training: applied where the network allows it, refused elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from mtl_core.data.sample import MultiTaskDataset
from mtl_core.errors import ExperimentError, MtlError
from mtl_core.settings.diff import MACHINE, is_free
from mtl_core.settings.toml_file import load_experiment
from mtl_core.tasks.task import Task
from mtl_core.tasks.tasks import Tasks
from mtl_core.training.session import open_hooks

_FIXED = ("name", "channels")
"""What a trained head depends on."""


def with_changed_options(
    trained: Tasks, dataset: MultiTaskDataset, file: Path, overrides: Sequence[str], split: str
) -> Tasks:
    """The tasks of a checkpoint, with the options that the overrides change, such as the tolerance of a metric.

    A data set may also compute options from its data: what differs without the overrides stays as it was trained.

    :param trained: of the checkpoint
    :param dataset: of the split, opened with the overrides
    :param file: the run's experiment
    :raises ExperimentError: a task's options do not fit its head any more
    """
    found = [task for task in trained if task.name in dataset.tasks.names]
    if not overrides or all(dataset.tasks[task.name] == task for task in found):
        return trained
    before = _without(file, overrides, split)
    return Tasks([_changed(task, before, dataset.tasks, overrides) for task in trained])


def _without(file: Path, overrides: Sequence[str], split: str) -> Tasks | None:
    """The data set's tasks as the run's own options make them; None where the data cannot be opened with those."""
    machine = [override for override in overrides if is_free(override.partition("=")[0].strip(), MACHINE)]
    try:
        return open_hooks(load_experiment(file, machine)).build_dataset(split).tasks
    except MtlError:
        return None


def _changed(task: Task, before: Tasks | None, after: Tasks, overrides: Sequence[str]) -> Task:
    if task.name not in after.names or after[task.name] == task:
        return task
    new = after[task.name]
    old = before[task.name] if before is not None and task.name in before.names else task
    if type(new) is not type(task):
        raise _refused(task, f"it is {_kind(task)}, and with these options {_kind(new)}", overrides)
    changed = {key: value for key, value in _fields(new).items() if _fields(old).get(key) != value}
    for key in _FIXED:
        if key in changed:
            raise _refused(task, f"it has {key} {_fields(task)[key]}, and with these options {changed[key]}", overrides)
    return attrs.evolve(task, **changed)


def _fields(task: Task) -> dict[str, Any]:
    return {option.name: getattr(task, option.name) for option in attrs.fields(type(task)) if option.init}


def _kind(task: Task) -> str:
    return type(task).__name__


def _refused(task: Task, reason: str, overrides: Sequence[str]) -> ExperimentError:
    shown = ", ".join(overrides)
    return ExperimentError(f"--set {shown}", [f"task {task.name}: {reason}; a trained head cannot follow, train again"])
