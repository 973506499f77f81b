"""FastDepth's frames: ``nyudepthv2/{train,val}/SCENE/NNNNN.h5`` with ``rgb`` and ``depth``.

Shape letters: H and W image size.
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
from mtl_nyuv2.sources import Source, Wanted, first_line, listed, open_hdf5
from mtl_nyuv2.values import Array

_EXPECTED = "an HDF5 file with rgb (3, H, W), 8 bits, and depth (H, W) in metres"
_SPLITS = {"train": "train", "test": "val"}


@attrs.frozen
class _Frames:
    """A file per frame.

    :param paths: ``SCENE/NNNNN.h5``
    """

    paths: Sequence[Path]

    @property
    def names(self) -> Sequence[str]:
        return [f"{path.parent.name}/{path.stem}" for path in self.paths]

    @property
    def files(self) -> Sequence[Path]:
        return self.paths

    def image(self, index: int) -> Tensor:
        """uint8 (3, H, W)."""
        values = _read(self.paths[index], "rgb")
        if values.dtype != np.uint8 or values.ndim != 3 or len(values) != 3:
            raise _wrong(self.paths[index], "rgb", values)
        return torch.from_numpy(values)

    def label(self, task: str, index: int) -> Tensor:
        values = _read(self.paths[index], "depth")
        if values.dtype.kind != "f" or values.ndim != 2:
            raise _wrong(self.paths[index], "depth", values)
        return metres(values)

    def where(self, index: int, task: str | None = None) -> str:
        return str(self.paths[index])


def _read(path: Path, key: str) -> Array:
    with open_hdf5(path, _EXPECTED) as file:
        if key not in file:
            raise DataError(f"{path}: no {key!r} in it (it has: {', '.join(file) or 'nothing'}); expected {_EXPECTED}")
        try:
            return np.asarray(file[key])
        except Exception as error:  # damaged parts make HDF5 raise several kinds of error
            raise DataError(
                f"{path}: {key} cannot be read ({first_line(error)}); expected {_EXPECTED}; copy it again"
            ) from error


def _wrong(path: Path, key: str, values: Any) -> DataError:
    return DataError(f"{path}: {key} is {values.dtype} of shape {values.shape}; expected {_EXPECTED}")


class FastDepth:
    """The layout: ``train/SCENE/*.h5`` and ``val/official/*.h5``."""

    def has(self, root: Path, split: str) -> bool:
        return root.is_dir() and next((root / _SPLITS[split]).glob("*/*.h5"), None) is not None

    def open(self, root: Path, split: str, wanted: Wanted) -> Source:
        wanted.check(root, ("depth", "normals"))
        scenes = sorted(path for path in (root / _SPLITS[split]).iterdir() if path.is_dir())
        source = _Frames([path for scene in scenes for path in listed(scene, (".h5",))])
        return with_normals(source, wanted.normals, wanted.plugin) if "normals" in wanted.tasks else source
