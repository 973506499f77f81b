"""Options of tasks that an experiment sets, ``[task_options.TASK]``, in place of those that the data set chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from mtl_core.data.datasets import Retasked
from mtl_core.data.sample import MultiTaskDataset
from mtl_core.errors import ExperimentError, nearest
from mtl_core.experiment import Experiment
from mtl_core.options.convert import Text
from mtl_core.options.fields import kind_of, options
from mtl_core.options.read import listing, place, read_options
from mtl_core.options.type_names import is_tuple
from mtl_core.tasks.task import Task
from mtl_core.tasks.tasks import Tasks
from mtl_core.training.evaluation import metric_names

_Given = Mapping[str, Mapping[str, Any]]
"""Task → option → value."""


def with_task_options(experiment: Experiment, dataset: MultiTaskDataset) -> MultiTaskDataset:
    """A data set whose tasks have the experiment's options; its labels stay what they are.

    :raises ExperimentError: with every mistake in the options
    """
    if not experiment.task_options:
        return dataset
    return Retasked(dataset, _changed_tasks(dataset.tasks, experiment.task_options, _source_of(experiment)))


def with_saved_options(experiment: Experiment, tasks: Tasks) -> Tasks:
    """A checkpoint's tasks with the options of an experiment, which ``--set`` may have changed.

    Options of tasks that the run did not learn are left out.
    """
    given = {name: values for name, values in experiment.task_options.items() if name in tasks.names}
    return _changed_tasks(tasks, given, _source_of(experiment)) if given else tasks


def _source_of(experiment: Experiment) -> str:
    return experiment.source or f'experiment "{experiment.name}"'


def _changed_tasks(tasks: Tasks, given: _Given, source: str) -> Tasks:
    """Tasks with other options.

    :param source: of the options, for messages
    :raises ExperimentError: with every mistake in them
    """
    listed = ", ".join(tasks.names)
    problems = [
        f"task_options.{name}: there is no task of this name{nearest(name, tasks.names)} (tasks: {listed})"
        for name in given
        if name not in tasks.names
    ]
    made = []
    for task in tasks:
        changed, wrong = _changed_task(task, given.get(task.name, {}))
        made.append(changed)
        problems += wrong
    if problems:
        raise ExperimentError(source, problems)
    return Tasks(made)


def _changed_task(task: Task, given: Mapping[str, Any]) -> tuple[Task, list[str]]:
    """A task with other options, and what is wrong with them."""
    if not given:
        return task, []
    path = f"task_options.{task.name}"
    known = _settable(type(task))
    unknown = [key for key in given if key not in known]
    problems = [f"{place(f'{path}.{key}', given[key])}: {_reason(key, known, task)}" for key in unknown]
    own = {key: getattr(task, option.name) for key, option in options(type(task)).items()}
    chosen = {key: _as_list(type(task), key, value) for key, value in given.items() if key in known}
    # with the task's own values: validators look at several options together
    values, wrong = read_options(type(task), own | chosen, path)
    if problems + wrong:
        return task, problems + wrong
    made = attrs.evolve(task, **{key: values[key] for key in given})
    return made, _unknown_metrics(made, path)


def _as_list(kind: type[Task], key: str, value: Any) -> Any:
    """``a,b`` for an option that takes a list, which ``--set`` could not know."""
    takes_list = is_tuple(kind_of(kind, options(kind)[key]))
    if not takes_list or not isinstance(value, str):
        return value
    return Text(value)


def _settable(kind: type[Task]) -> list[str]:
    """The options of a kind of task that an experiment may set; the others are the data set's."""
    return [key for key, option in options(kind).items() if option.metadata.get("setting")]


def _reason(key: str, known: Sequence[str], task: Task) -> str:
    if key in options(type(task)):
        return f"is set by the data set{listing(known)}"
    return f"unknown option{nearest(key, known) or listing(known)}"


def _unknown_metrics(task: Task, path: str) -> list[str]:
    """Names of metrics that the kind does not have."""
    # of the kind: the task itself may keep only some of its metrics
    known = [name.partition("/")[2] for name in metric_names(Tasks([attrs.evolve(task, metrics=(), headline=None)]))]
    wanted = [("metrics", name) for name in task.reported]
    wanted += [("headline", task.chosen_headline)] if task.chosen_headline is not None else []
    return [
        f'{path}.{key}: there is no metric "{name}"{nearest(name, known)} (there are: {", ".join(known)})'
        for key, name in wanted
        if name not in known
    ]
