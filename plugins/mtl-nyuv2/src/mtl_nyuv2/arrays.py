"""The files of the array layout, a function per folder; each returns (C, H, W) or (H, W).

Shape letters: C channels, H and W image size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from mtl_core import DataError
from mtl_nyuv2.values import Array, channels_first, classes, metres, unit

ROUNDING = 1e-3


def loaded(path: Path, expected: str, *channels: int) -> Array:
    """The numbers of a ``.npy`` file of shape (H, W, *channels)."""
    try:
        with path.open("rb") as file:
            values = np.load(file, allow_pickle=False)
        shape, kind = values.shape, values.dtype.kind
    except Exception as error:  # damaged files make numpy raise a dozen kinds of error
        raise DataError(
            f"{path}: cannot be read as an array ({type(error).__name__}: {error}); expected {expected}; copy it again"
        ) from error
    if len(shape) != 2 + len(channels) or shape[2:] != channels or 0 in shape or kind not in "fiu":
        raise DataError(f"{path}: {values.dtype} of shape {shape}, expected {expected}; is it another folder's?")
    return np.asarray(values)


def image(path: Path) -> Tensor:
    """float32 (3, H, W) in 0..1."""
    values = loaded(path, "an image (H, W, 3) of numbers from 0 to 1", 3)
    if not (values.min() >= -ROUNDING and values.max() <= 1 + ROUNDING):
        raise DataError(
            f"{path}: image values from {values.min():g} to {values.max():g}, expected 0 to 1;"
            " divide 8-bit values by 255"
        )
    return channels_first(values.astype(np.float32)).clamp(0, 1)


def label(path: Path) -> Tensor:
    return classes(path, loaded(path, "classes (H, W), −1 to 12"))


def depth(path: Path) -> Tensor:
    return metres(loaded(path, "depth (H, W, 1) in metres", 1)[..., 0])


def normal(path: Path) -> Tensor:
    return unit(channels_first(loaded(path, "normals (H, W, 3)", 3).astype(np.float32)))
