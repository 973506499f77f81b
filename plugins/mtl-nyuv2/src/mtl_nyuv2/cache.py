"""Samples kept in memory that all loader processes share.

Shape letters: N samples, H and W image size.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtl_core import Sample

LIMIT = 2**31

Field = tuple[str, tuple[int, ...]]
"""numpy's name of a type, and a shape."""


class Cache:
    """Room for N samples, without loss; pages are taken when they are written.

    The memory is anonymous and shared: what one forked worker has read, all have, also in the next epoch. A cache that
    is sent to another process by pickling arrives empty.

    :param length: N; 0 keeps nothing
    :param image: how an image is kept
    :param targets: task → how its label is kept; int8 comes back as long
    :param limit: bytes; what goes beyond is not kept
    """

    def __init__(self, length: int, image: Field, targets: Mapping[str, Field], limit: int = LIMIT) -> None:
        fields = [("image", *image), *((name, *kind) for name, kind in targets.items()), ("ready", "u1", ())]
        self.record, self.tasks = np.dtype(fields, align=True), tuple(targets)
        self.count = min(length, limit // self.record.itemsize)
        self.rows = self.empty()

    def empty(self) -> NDArray[np.void]:
        if self.count == 0:
            return np.zeros(0, self.record)
        return np.frombuffer(mmap.mmap(-1, self.count * self.record.itemsize), self.record)

    def get(self, index: int) -> Sample | None:
        """A copy of a sample, or None if it is not there."""
        if index >= self.count or not self.rows[index]["ready"]:
            return None
        row = self.rows[index]
        targets = {name: torch.from_numpy(row[name].copy()) for name in self.tasks}
        opened = {name: kept.long() if kept.dtype == torch.int8 else kept for name, kept in targets.items()}
        return Sample(torch.from_numpy(row["image"].copy()), opened)

    def put(self, index: int, sample: Sample) -> None:
        """Keep a sample; ``ready`` comes last, because other processes may be reading."""
        if index >= self.count:
            return
        row = self.rows[index]
        row["image"] = sample.image.numpy()
        for name in self.tasks:
            row[name] = sample.targets[name].numpy()
        row["ready"] = 1

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "rows": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.rows = self.empty()
