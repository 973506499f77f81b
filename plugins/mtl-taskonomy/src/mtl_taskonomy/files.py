"""What each domain's files hold, before any convention of training.

Shape letters: C channels, H and W image size. Maps are float with NaN where invalid.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtl_core import DataError
from mtl_data import channels_first, read_picture, unit
from mtl_taskonomy.tasks import CLASSES, PER_METRE

_SIXTEEN = ("I;16", "I;16B", "I")
WHOLE = 65535
"""The largest number of 16 bits; in depth files it marks an invalid pixel."""
_INVALID_NORMAL = 128
_ZERO_CURVATURE = 127


def read_classes(path: Path) -> Tensor:
    """Long (H, W): classes from 0, −1 where uncertain.

    :raises DataError: the file cannot be read, or holds a value that is no class
    """
    values = read_picture(path, ("L", "P"), "an 8-bit image of one channel: 0 uncertain, 1 to 17 the classes")
    if values.size and values.max() > len(CLASSES):
        wrong = values[values > len(CLASSES)]
        raise DataError(
            f"{path}: {wrong.size} pixels of no class, the first {wrong[0]}; expected 0 (uncertain) to {len(CLASSES)}"
            f" ({CLASSES[-1]}); use Taskonomy's own segment_semantic"
        )
    return torch.from_numpy(values.astype(np.int64) - 1)


def read_depth(path: Path, limit: float | None = None) -> Tensor:
    """Metres (1, H, W), 0 where missing.

    :param limit: metres from which a depth counts as missing
    """
    values = read_picture(path, _SIXTEEN, "a 16-bit image of one channel, 512 to the metre")
    metres = torch.from_numpy(values.astype(np.float32) / np.float32(PER_METRE))[None]
    known = torch.from_numpy(values < WHOLE)[None]
    if limit is not None:
        known &= metres < limit
    return torch.where(known, metres, torch.zeros_like(metres))


def read_normals(path: Path) -> Tensor:
    """Unit vectors (3, H, W), x right, y down, z forward; zero where invalid."""
    values = read_picture(path, ("RGB",), "an RGB image of normals, n = (v − 127.5) / 127.5")
    vectors = (values.astype(np.float32) - np.float32(127.5)) / np.float32(127.5)
    known = (values != _INVALID_NORMAL).any(-1, keepdims=True)
    return unit(channels_first(np.where(known, vectors, np.float32(0))))


def read_strength(path: Path) -> Tensor:
    """Edges and keypoints (1, H, W) in 0..1."""
    values = read_picture(path, _SIXTEEN, "a 16-bit image of one channel")
    return torch.from_numpy(values.astype(np.float32) / np.float32(WHOLE))[None]


def read_shading(path: Path) -> Tensor:
    """Reshading (1, H, W) in 0..1: the first of three equal channels."""
    values = read_picture(path, ("RGB", "L"), "an RGB image of three equal channels, 8 bits")
    first = values if values.ndim == 2 else values[..., 0]
    return torch.from_numpy(first.astype(np.float32) / np.float32(255))[None]


def read_curvature(path: Path) -> Tensor:
    """Principal curvatures (2, H, W) in about −1..1, 0 where flat: the first two channels."""
    values = read_picture(path, ("RGB",), "an RGB image of principal curvatures in the first two channels")
    return channels_first((values[..., :2].astype(np.float32) - _ZERO_CURVATURE) / np.float32(128))


def read_mask(path: Path) -> Tensor:
    """Valid pixels, bool (1, H, W)."""
    values = read_picture(path, ("L", "1"), "an 8-bit image of one channel: 0 invalid, 255 valid")
    return torch.from_numpy(values > 127 if values.dtype != bool else values.copy())[None]
