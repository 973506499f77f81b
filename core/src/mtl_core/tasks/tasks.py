"""The K tasks of a run, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from mtl_core.errors import MtlError, nearest
from mtl_core.tasks.task import Task


class Tasks(Sequence[Task]):
    """The K tasks of a run, in a fixed order; by position or by name."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = {task.name: task for task in tasks}
        if len(self._tasks) != len(tasks):
            raise ValueError(f"two tasks have the same name: {[t.name for t in tasks]}")

    @overload
    def __getitem__(self, key: int | str) -> Task: ...
    @overload
    def __getitem__(self, key: slice) -> Tasks: ...
    def __getitem__(self, key: int | str | slice) -> Task | Tasks:
        if isinstance(key, str):
            return self._tasks[key]
        chosen = list(self._tasks.values())[key]
        return Tasks(chosen) if isinstance(chosen, list) else chosen

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def __repr__(self) -> str:
        return f"Tasks({', '.join(self.names)})"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tasks)

    def position(self, name: str) -> int:
        """Column of a task in every (…, K) tensor."""
        return self.names.index(name)

    @property
    def dense(self) -> Tasks:
        return Tasks([task for task in self if task.dense])

    def select(self, names: Sequence[str]) -> Tasks:
        return Tasks([self[name] for name in names])

    def choose(self, names: Sequence[str], source: str) -> Tasks:
        """The tasks of a setting.

        :param source: the setting, as messages call it
        :raises MtlError: there is no task of a name
        """
        for name in names:
            if name not in self._tasks:
                raise MtlError(
                    f"{source}: the data set has no task {name!r}{nearest(name, self.names)}"
                    f" (its tasks: {', '.join(self.names)})"
                )
        return self.select(names)

    def choose_dense(self, names: Sequence[str], plugin: str, needs: str) -> Tasks:
        """The tasks of a plugin's option ``tasks``, for a plugin that needs two or more maps per image.

        :param names: those of the option; all tasks where it is empty
        :param plugin: its name in the experiment
        :param needs: completes "… two tasks", such as ``"pairs need"``
        :raises MtlError: an unknown task, one that has a value per image, or fewer than two
        """
        selected = self.choose(names, f"{plugin}.tasks") if names else self
        flat = [task.name for task in selected if not task.dense]
        if flat:
            raise MtlError(
                f"{plugin}: task {flat[0]!r} has one value per image, and a value per pixel is needed;"
                f" leave it out: tasks = {list(selected.dense.names)}"
            )
        if len(selected) < 2:
            raise MtlError(
                f"{plugin}: {needs} two tasks, found {', '.join(selected.names)}; remove the plugin, or add a task"
            )
        return selected
