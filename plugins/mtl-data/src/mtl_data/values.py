"""Rules for the values of labels, whatever file they come from.

Shape letters: C channels, H and W image size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def metres(values: NDArray[Any]) -> Tensor:
    """Depth (1, H, W) from (H, W), 0 where missing: what is not finite or not above 0 is missing."""
    known = np.isfinite(values) & (values > 0)
    return torch.from_numpy(np.where(known, values, 0).astype(np.float32))[None]


def unit(vectors: Tensor) -> Tensor:
    """Unit vectors (3, H, W); those shorter than 1/2 or not finite are invalid: zero."""
    norm = length(vectors)
    return torch.where(norm.isfinite() & (norm > 0.5), vectors / norm, torch.zeros_like(vectors))


def length(vectors: Tensor) -> Tensor:
    """Of vectors (3, H, W): (1, H, W). ``Tensor.norm`` over the first dimension takes ten times as long."""
    return vectors.square().sum(0, keepdim=True).sqrt()


def channels_first(values: NDArray[Any]) -> Tensor:
    """(H, W, C) → (C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
