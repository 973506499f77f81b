"""NYUD_MT, the archive of MTI-Net and its successors.

Shape letters: H and W image size.

=====================  =============================================================
``gt_sets``            ``train.txt``, ``val.txt``: a name a line
``images``             ``NAME.jpg``
``segmentation``       ``NAME.png``, 0 unlabelled, 1 to 40
``depth``              ``NAME.npy`` (H, W), metres
``normals``            ``NAME.npy`` (H, W, 3), −1 to 1
``edge``               ``NAME.npy`` (H, W), 0 or 1
=====================  =============================================================
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtl_core import DataError
from mtl_data import metres, read_array, read_picture, read_rgb
from mtl_nyuv2 import arrays
from mtl_nyuv2.normals import with_normals
from mtl_nyuv2.sources import Folders, Reader, Source, Wanted
from mtl_nyuv2.values import Array, from_numbers

_LISTS = {"train": "train.txt", "test": "val.txt"}
_LABELS = {
    "segmentation": ("segmentation", ".png"),
    "depth": ("depth", ".npy"),
    "normals": ("normals", ".npy"),
    "edges": ("edge", ".npy"),
}
"""Task → folder, ending."""


def _segmentation(path: Path, count: int) -> Tensor:
    values = read_picture(path, ("L", "P"), "an 8-bit image of one channel: 0 unlabelled, 1 to 40 the classes")
    return from_numbers(path, values, 40, count)


def _flat(path: Path, expected: str) -> Array:
    """(H, W), from a file of that shape or of (H, W, 1)."""
    try:
        return read_array(path, expected)
    except DataError as error:
        try:
            return np.asarray(read_array(path, expected, 1)[..., 0])
        except DataError:
            raise error from None


def _depth(path: Path) -> Tensor:
    return metres(_flat(path, "depth (H, W) in metres"))


def _edges(path: Path) -> Tensor:
    """float32 (1, H, W), 0 or 1."""
    values = _flat(path, "edges (H, W), 0 or 1")
    if not ((values == 0) | (values == 1)).all():
        raise DataError(f"{path}: values from {values.min():g} to {values.max():g}, expected edges: 0 or 1")
    return torch.from_numpy(values.astype(np.float32))[None]


class NYUDMT:
    """The layout."""

    def has(self, root: Path, split: str) -> bool:
        return (root / "gt_sets").is_dir() and (root / "images").is_dir()

    def open(self, root: Path, split: str, wanted: Wanted) -> Source:
        wanted.check(root, tuple(_LABELS))
        own = [task for task in wanted.tasks if task != "normals" or wanted.normals is None]
        names = _listed_names(root / "gt_sets" / _LISTS[split])
        images = _existing(root / "images", names, ".jpg")
        labels = {task: _existing(root / _LABELS[task][0], names, _LABELS[task][1]) for task in own}
        readers: dict[str, Reader] = {
            "segmentation": functools.partial(_segmentation, count=wanted.classes),
            "depth": _depth,
            "normals": arrays.normal,
            "edges": _edges,
        }
        source: Source = Folders(names, images, labels, read_rgb, readers)
        if "normals" in wanted.tasks and wanted.normals is not None:
            return with_normals(source, wanted.normals, wanted.plugin)
        return source


def _listed_names(path: Path) -> list[str]:
    """:raises DataError: the list is missing, empty, or names an image twice"""
    expected = "the names of the split's images, one a line"
    try:
        names = path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected {expected}; copy the archive again") from error
    if not names or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), None)
        raise DataError(f"{path}: {'no name' if twice is None else f'{twice!r} twice'}; expected {expected}")
    return names


def _existing(folder: Path, names: list[str], ending: str) -> list[Path]:
    """:raises DataError: there is no file for a name"""
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for name in names:
        if f"{name}{ending}" not in present:
            found = f"{len(present)} files" if folder.is_dir() else "no such folder"
            raise DataError(
                f"{folder / name}{ending}: no such file ({folder}: {found}); expected one for each of {len(names)}"
                " images; copy the archive again, or leave the task out of plugins.nyuv2.tasks"
            )
    return [folder / f"{name}{ending}" for name in names]
