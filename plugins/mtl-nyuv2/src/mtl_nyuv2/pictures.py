"""The files of the image layout, a function per folder; each returns (C, H, W) or (H, W).

Shape letters: C channels, H and W image size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from mtl_data import channels_first, metres, read_picture, read_rgb, unit
from mtl_nyuv2.values import classes

image = read_rgb


def label(path: Path, count: int = 13) -> Tensor:
    expected = f"an 8-bit image of one channel: 0 unlabelled, 1 to {count} the classes"
    return classes(path, read_picture(path, ("L", "P"), expected).astype(np.int64) - 1, count)


def depth(path: Path) -> Tensor:
    values = read_picture(path, ("I;16", "I;16B", "I"), "a 16-bit image of one channel, depth in millimetres")
    return metres(values.astype(np.float32) / 1000)


def normal(path: Path) -> Tensor:
    values = read_picture(path, ("RGB",), "an RGB image of normals, n = (v − 128) / 127")
    vectors = np.where(values.any(-1, keepdims=True), (values.astype(np.float32) - 128) / 127, np.float32(0))
    return unit(channels_first(vectors))
