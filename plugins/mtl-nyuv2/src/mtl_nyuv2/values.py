"""What the values of a label may be, whatever file they come from.

Shape letters: H and W image size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_core import DataError

Array = NDArray[Any]
CLASSES = ("bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv",
           "wall", "window")  # fmt: skip


def classes(path: Path, values: Array) -> Tensor:
    """Classes (H, W) as int64, −1 where unlabelled.

    :param values: numbers of any kind
    :raises DataError: a value that is no class
    """
    last = len(CLASSES) - 1
    wrong = values[~((values >= -1) & (values <= last) & (values == np.round(values)))]
    if wrong.size:
        raise DataError(
            f"{path}: {wrong.size} pixels of no class, the first {wrong[0]:g}; expected whole numbers from"
            f" −1 (unlabelled) to {last} ({CLASSES[-1]}); use the labels of the 13-class version"
        )
    return torch.from_numpy(values.astype(np.int64))


def metres(values: Array) -> Tensor:
    """Depth (1, H, W) from (H, W), 0 where missing: what is not finite or below 0 is missing."""
    known = np.isfinite(values) & (values > 0)
    return torch.from_numpy(np.where(known, values, 0).astype(np.float32))[None]


def unit(vectors: Tensor) -> Tensor:
    """Unit vectors (3, H, W); those shorter than 1/2 or not finite are invalid: zero."""
    norm = vectors.norm(dim=0, keepdim=True)
    return torch.where(norm.isfinite() & (norm > 0.5), vectors / norm, torch.zeros_like(vectors))


def channels_first(values: Array) -> Tensor:
    """(H, W, C) → (C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
