"""Tasks as plain types, as checkpoints hold them: data, of which nothing is imported or called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

from mtl_core.errors import CheckpointError, nearest
from mtl_core.options.fields import options
from mtl_core.options.read import read_options
from mtl_core.tasks.classification import Classification
from mtl_core.tasks.edges import BinaryEdges
from mtl_core.tasks.normals import Normals
from mtl_core.tasks.regression import Depth, Regression
from mtl_core.tasks.segmentation import Segmentation
from mtl_core.tasks.task import Task
from mtl_core.tasks.tasks import Tasks

_GROUP = "mtl.tasks"
"""Entry-point group in which plugins register their kinds of tasks: name → class."""

OWN: dict[str, type[Task]] = {
    "segmentation": Segmentation,
    "regression": Regression,
    "depth": Depth,
    "normals": Normals,
    "edges": BinaryEdges,
    "classification": Classification,
}


def tasks_to_plain(tasks: Tasks) -> list[dict[str, Any]]:
    """Kind and options of each task."""
    return [{"kind": _kind_of(type(task)), **_plain_options(task)} for task in tasks]


def _plain_options(task: Task) -> dict[str, Any]:
    """A task's options by the names that its class takes."""
    return {key: getattr(task, option.name) for key, option in options(type(task)).items()}


def tasks_from_plain(rows: object, source: str) -> Tasks:
    """Tasks from :func:`tasks_to_plain`.

    :param source: the checkpoint, for messages
    :raises CheckpointError: a kind that is neither core's nor registered by an installed plugin, or a wrong option
    """
    if not isinstance(rows, Sequence) or not rows or not all(isinstance(row, Mapping) for row in rows):
        raise CheckpointError(f"{source}: holds no tasks; expected a checkpoint that `mtl train` wrote")
    try:
        return Tasks([_made(row, source) for row in rows])
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: tasks that do not fit: {error}") from error


def _made(row: Mapping[str, Any], source: str) -> Task:
    cls = _class_of(row.get("kind"), source)
    # checked like an experiment file: a checkpoint may come from elsewhere
    values, problems = read_options(cls, {key: value for key, value in row.items() if key != "kind"})
    if problems:
        raise CheckpointError(f"{source}: a task that does not fit: {'; '.join(problems)}")
    made = cls(**values)
    if made.channels < 1:
        raise CheckpointError(f"{source}: task {made.name!r} has {made.channels} channels; expected at least 1")
    return made


def _kind_of(cls: type[Task]) -> str:
    """The name under which a kind is registered; its import path where it is not."""
    own = {kind: name for name, kind in OWN.items()}
    path = _path(cls)
    registered = {entry.value: entry.name for entry in entry_points(group=_GROUP)}
    return own.get(cls) or registered.get(path, path)


def _class_of(kind: object, source: str) -> type[Task]:
    if isinstance(kind, str) and kind in OWN:
        return OWN[kind]
    entries = {entry.name: entry for entry in entry_points(group=_GROUP)}
    if isinstance(kind, str) and kind in entries:
        cls = entries[kind].load()
        if isinstance(cls, type) and issubclass(cls, Task):
            return cls
    # A class that this program defined itself, such as one in a script, is found but never imported.
    present = {_path(cls): cls for cls in _subclasses(Task)}
    if isinstance(kind, str) and kind in present:
        return present[kind]
    known = [*OWN, *entries]
    hint = nearest(str(kind), known) or f" (known: {', '.join(known)})"
    raise CheckpointError(
        f"{source}: a task of the kind {kind!r}, which no installed plugin registers{hint};"
        f' install the plugin that has it (entry-point group "{_GROUP}")'
    )


def _path(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _subclasses(cls: type[Task]) -> Iterator[type[Task]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)
