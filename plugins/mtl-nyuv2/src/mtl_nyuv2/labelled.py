"""The official file ``nyu_depth_v2_labeled.mat``: MATLAB 7.3, which is HDF5 with the axes reversed.

Shape letters: N images of both splits, H and W image size.

============  ======================  ==========================================================
``images``    uint8 (N, 3, W, H)      RGB
``depths``    float32 (N, W, H)       metres, holes filled in
``labels``    uint16 (N, W, H)        0 unlabelled, 1 to 894
============  ======================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from mtl_core import DataError
from mtl_data import metres
from mtl_nyuv2.normals import with_normals
from mtl_nyuv2.official import IMAGES, split_numbers
from mtl_nyuv2.sources import Opened, Source, Wanted, first_line
from mtl_nyuv2.values import Array, from_numbers

FILE = "nyu_depth_v2_labeled.mat"
_SPLITS = "splits.mat"
_EXPECTED = f"{FILE} of the labelled set (MATLAB 7.3, 2.8 GB)"
_KEYS = {"image": ("images", 4), "segmentation": ("labels", 3), "depth": ("depths", 3)}
"""Ours → the file's name, and how many axes it has."""


@attrs.frozen
class _Labelled:
    """Some images of the official file.

    :param file: the file
    :param numbers: of the images, from 1
    :param classes: 13 or 40
    :param beside: files that say which images these are
    """

    file: Opened
    numbers: Sequence[int]
    classes: int
    beside: Sequence[Path] = ()

    @property
    def names(self) -> Sequence[str]:
        return [f"{number:04d}" for number in self.numbers]

    @property
    def files(self) -> Sequence[Path]:
        return [self.file.path, *self.beside]

    def image(self, index: int) -> Tensor:
        """uint8 (3, H, W)."""
        return torch.from_numpy(np.ascontiguousarray(self.read("image", index).transpose(0, 2, 1)))

    def label(self, task: str, index: int) -> Tensor:
        values = self.read(task, index).T
        if task == "depth":
            return metres(values)
        return from_numbers(self.where(index, task), values, 894, self.classes)

    def where(self, index: int, task: str | None = None) -> str:
        return f"{self.file.path}, {_KEYS[task or 'image'][0]} of image {self.numbers[index]}"

    def read(self, key: str, index: int) -> Array:
        stored = _dataset_of(self.file, key)
        try:
            return np.asarray(stored[self.numbers[index] - 1])
        except Exception as error:  # damaged parts make HDF5 raise several kinds of error
            raise DataError(
                f"{self.where(index, None if key == 'image' else key)}: cannot be read ({first_line(error)}); copy the"
                " file again"
            ) from error


def _dataset_of(file: Opened, key: str) -> Any:
    """:raises DataError: the file has no such array, or one of another form"""
    name, axes = _KEYS[key]
    opened = file()
    if name not in opened:
        raise DataError(f"{file.path}: no {name!r} in it (it has: {', '.join(opened)}); expected {_EXPECTED}")
    stored = opened[name]
    if len(getattr(stored, "shape", ())) != axes:
        found = getattr(stored, "shape", type(stored).__name__)
        raise DataError(f"{file.path}: {name!r} is {found}, expected {axes} axes; expected {_EXPECTED}")
    return stored


class MatFile:
    """The layout: the file itself as root, or in it."""

    def find(self, root: Path) -> Path | None:
        if root.is_file():
            return root if root.suffix.lower() == ".mat" else None
        return root / FILE if (root / FILE).is_file() else None

    def has(self, root: Path, split: str) -> bool:
        return self.find(root) is not None

    def open(self, root: Path, split: str, wanted: Wanted) -> Source:
        path = self.find(root)
        assert path is not None
        wanted.check(path, ("segmentation", "depth", "normals"))
        file = Opened(path, _EXPECTED)
        beside = path.with_name(_SPLITS)
        derived = ("depth",) if "normals" in wanted.tasks and wanted.normals is None else ()
        for key in ("image", *derived, *(task for task in wanted.tasks if task in _KEYS)):
            _dataset_of(file, key)
        numbers = _from_splits(beside, split) if beside.is_file() else split_numbers(split)
        count = len(_dataset_of(file, "image"))
        if max(numbers) > count:
            raise DataError(
                f"{path}: {count} images, but the {split} split has image {max(numbers)}; expected {IMAGES};"
                " copy it again"
            )
        source = _Labelled(file, numbers, wanted.classes, [beside] if beside.is_file() else [])
        return with_normals(source, wanted.normals, wanted.plugin) if "normals" in wanted.tasks else source


def _from_splits(path: Path, split: str) -> list[int]:
    """The numbers, from 1, of a split in ``splits.mat``.

    :raises DataError: the file is damaged or has no such list, or scipy is not installed
    """
    key = {"train": "trainNdxs", "test": "testNdxs"}[split]
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DataError(f"{path}: needs scipy to be read; pip install 'mtl-nyuv2[hdf5]'") from error
    try:
        found = loadmat(path)[key]
        numbers = [int(number) for number in np.asarray(found).flatten()]
    except Exception as error:  # damaged files make scipy raise a dozen kinds of error
        raise DataError(
            f"{path}: {key} cannot be read ({type(error).__name__}: {first_line(error)}); expected the official"
            " splits.mat; without the file the same lists are taken from this plugin"
        ) from error
    if not numbers or min(numbers) < 1:
        raise DataError(f"{path}: {key} with {numbers[:3]}, expected numbers of images, from 1; copy it again")
    return numbers
