"""The files of the array layouts, a function per folder; each returns (C, H, W) or (H, W).

Shape letters: C channels, H and W image size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from mtl_data import channels_first, metres, read_array, unit
from mtl_nyuv2.values import classes


def label(path: Path, count: int = 13) -> Tensor:
    return classes(path, read_array(path, f"classes (H, W), −1 to {count - 1}"), count)


def depth(path: Path) -> Tensor:
    return metres(read_array(path, "depth (H, W, 1) in metres", 1)[..., 0])


def normal(path: Path) -> Tensor:
    return unit(channels_first(read_array(path, "normals (H, W, 3)", 3).astype(np.float32)))
