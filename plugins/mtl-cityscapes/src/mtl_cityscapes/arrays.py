"""The ``.npy`` files of MTAN's and AdaShare's trees, a function per kind of file.

Shape letters: H and W image size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtl_cityscapes.depths import LARGEST
from mtl_core import DataError
from mtl_data import read_array


def read_classes(path: Path, classes: int) -> Tensor:
    """Classes from 0, −1 where unlabelled: int32 (H, W).

    :param classes: how many there are
    """
    values = read_array(path, f"classes (H, W), −1 to {classes - 1}")
    wrong = values[~((values >= -1) & (values < classes) & (values == np.round(values)))]
    if wrong.size:
        raise DataError(
            f"{path}: {wrong.size} pixels of no class, the first {wrong[0]:g}; expected whole numbers from"
            f" −1 (unlabelled) to {classes - 1}; use the labels of the {classes}-class version"
        )
    return torch.from_numpy(values.astype(np.int32))


def read_raw_disparity(path: Path) -> Tensor:
    """Raw disparity, float32 (1, H, W): 0 to 65535, 0 where unknown, from the files' fractions of 65535."""
    expected = "raw disparity / 65535 (H, W, 1), 0 where unknown"
    values = read_array(path, expected, 1)[..., 0].astype(np.float64)
    known = np.isfinite(values) & (values > 0)
    raw = np.where(known, values, 0) * LARGEST
    if raw.max() > LARGEST:
        raise DataError(f"{path}: values up to {values[known].max():g}, expected {expected}, at most 1")
    return torch.from_numpy(raw.astype(np.float32))[None]
