"""Scenes as a data set: sample ``index`` is drawn from (seed, split, index) and from nothing else.

Shape letters: N images, H and W image size.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_core import Sample, Tasks
from mtl_scenes.labels import LABELS
from mtl_scenes.levels import Difficulty
from mtl_scenes.render import render
from mtl_scenes.scene import make_scene

_SPLITS = ("train", "test", "val")
_CACHE_BYTES = 2**31

_Records = NDArray[np.void]


class SceneDataset:
    """One split of N images.

    :param split: ``"train"``, ``"test"`` or ``"val"``; they share no room
    :param size: (H, W) of the images
    :param length: N
    :param seed: of the data
    :param tasks: names of the tasks, in order
    :param cache: keep what has been rendered, up to 2 GiB
    :param difficulty: one of ``levels.LEVELS``
    """

    labelled: Tensor | None = None

    def __init__(
        self,
        split: str,
        size: tuple[int, int],
        length: int,
        seed: int,
        tasks: Sequence[str],
        cache: bool = True,
        difficulty: Difficulty = "hard",
    ) -> None:
        self.split = split
        self.size = size
        self.length = length
        self.seed = seed
        self.difficulty = difficulty
        self.tasks = Tasks([LABELS[name][0] for name in tasks])
        self.names: Sequence[str] | None = [f"{split}-{index:05d}" for index in range(length)]
        self.record = _record(size, tasks)
        self.caching = cache
        self.kept = self._room_for_all()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.length:
            raise IndexError(f"scenes: the {self.split} split has {self.length} images; there is no image {index}")
        row = self.kept[index] if index < len(self.kept) else np.zeros(1, self.record)[0]
        if not row["ready"]:
            self.fill(row, index)
        targets = {name: _opened(row[name]) for name in self.tasks.names}
        return Sample(torch.from_numpy(row["image"].copy()), targets)

    def fill(self, row: np.void, index: int) -> None:
        """Render into a record; ``ready`` comes last, because other processes may be reading."""
        rng = np.random.default_rng([self.seed, _SPLITS.index(self.split), index])
        view = render(make_scene(rng, self.difficulty), self.size, rng)
        row["image"] = view.image
        for name in self.tasks.names:
            row[name] = LABELS[name][1](view)
        row["ready"] = 1

    def _room_for_all(self) -> _Records:
        """Records in anonymous shared memory: what one forked worker has rendered, all have. Pages are taken when
        they are written."""
        count = min(self.length, _CACHE_BYTES // self.record.itemsize) if self.caching else 0
        if count == 0:
            return np.zeros(0, self.record)
        return np.frombuffer(mmap.mmap(-1, count * self.record.itemsize), self.record)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "kept": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.kept = self._room_for_all()


def _record(size: tuple[int, int], tasks: Sequence[str]) -> np.dtype[np.void]:
    """How a sample is kept: compact, and the same whether it comes from the cache or not."""
    fields: list[tuple[str, str, tuple[int, ...]]] = [("image", "u1", (3, *size))]
    for name in tasks:
        task, _, kind = LABELS[name]
        fields.append((name, kind, size if kind == "u1" else (task.channels, *size)))
    return np.dtype([*fields, ("ready", "u1", ())], align=True)


def _opened(kept: NDArray[Any]) -> Tensor:
    """A kept label as its task wants it: long or float32."""
    return torch.from_numpy(kept.astype(np.int64 if kept.dtype == np.uint8 else np.float32))
