"""Resizing images and labels, each as its meaning asks.

Shape letters: C channels, H and W image size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_data.values import length, unit

_Size = tuple[int, int]


def resize_image(values: Tensor, size: _Size) -> Tensor:
    """(3, H, W), bilinear with antialiasing; uint8 stays uint8."""
    if values.shape[-2:] == size:
        return values
    resized = F.interpolate(values[None].float(), size, mode="bilinear", antialias=True)[0]
    return resized.round().clamp(0, 255).to(torch.uint8) if values.dtype == torch.uint8 else resized.clamp(0, 1)


def resize_nearest(values: Tensor, size: _Size) -> Tensor:
    """Classes (H, W) or depth (1, H, W)."""
    if values.shape[-2:] == size:
        return values
    flat = values.reshape(1, -1, *values.shape[-2:]).float()
    return F.interpolate(flat, size, mode="nearest-exact").reshape(*values.shape[:-2], *size).to(values.dtype)


def resize_normals(vectors: Tensor, size: _Size) -> Tensor:
    """Unit vectors (3, H, W), bilinear and renormalised; a pixel of which more than half is invalid is invalid."""
    if vectors.shape[-2:] == size:
        return vectors
    valid = (length(vectors) > 0.5).float()
    both = F.interpolate(torch.cat((vectors, valid))[None], size, mode="bilinear", antialias=True)[0]
    mean = both[:3]
    share = both[3:]
    return torch.where(share > 0.5, unit(mean / share.clamp(min=1e-6)), torch.zeros_like(mean))
