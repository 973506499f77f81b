"""Depth labels from the raw numbers of a disparity file.

Shape letters: H and W image size. A raw number p is 0 where nothing is known; otherwise the disparity is (p − 1)/256
pixels of an image 2048 pixels wide, and p = 1 is infinitely far (cityscapesScripts, ``README.md``).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_FULL_WIDTH = 2048
"""Width of the images that raw disparities refer to."""
LARGEST = 65535
"""What the published arrays divide raw disparities by (inferred from their largest value)."""
UNKNOWN = -1.0
"""A disparity in pixels that is not known; 0 is infinitely far."""


class Camera(NamedTuple):
    """
    :param baseline: between the two cameras, metres
    :param focal: focal length fx, pixels of an image 2048 pixels wide
    """

    baseline: float
    focal: float


def _full_disparity(raw: Tensor) -> Tensor:
    """Disparity in pixels of an image 2048 pixels wide; any number where ``raw`` is 0."""
    # arrays store raw numbers as fractions: rounding must not make an infinitely far pixel negative
    return ((raw - 1) / 256).clamp(min=0)


def disparity(raw: Tensor, width: int) -> Tensor:
    """Disparity in pixels of an image that is ``width`` pixels wide, −1 where unknown: (1, H, W)."""
    return torch.where(raw > 0, _full_disparity(raw) * (width / _FULL_WIDTH), torch.full_like(raw, UNKNOWN))


def published(raw: Tensor) -> Tensor:
    """Raw disparity / 65535 as in MTAN's arrays, 0 where unknown: (1, H, W)."""
    return torch.where(raw > 0, raw / LARGEST, torch.zeros_like(raw))


def metres(raw: Tensor, camera: Camera, limit: float | None) -> Tensor:
    """Depth baseline · fx / disparity in metres, 0 where unknown, infinite or beyond the limit: (1, H, W)."""
    pixels = _full_disparity(raw)
    known = (raw > 0) & (pixels > 0)
    depth = camera.baseline * camera.focal / torch.where(known, pixels, torch.ones_like(pixels))
    if limit is not None:
        known = known & (depth <= limit)
    return torch.where(known, depth, torch.zeros_like(depth))
