"""The files of the image layout, a function per folder; each returns (C, H, W) or (H, W).

Shape letters: C channels, H and W image size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from mtl_core import DataError
from mtl_nyuv2.values import Array, channels_first, classes, metres, unit


def opened(path: Path, modes: tuple[str, ...], what: str) -> Array:
    try:
        with Image.open(path) as picture:
            found, values = picture.mode, np.asarray(picture)
    except Exception as error:  # damaged files make the decoders raise a dozen kinds of error
        reason = str(error).replace(f" {str(path)!r}", "")
        raise DataError(f"{path}: cannot be read as an image ({reason}); expected {what}; copy it again") from error
    if found not in modes:
        raise DataError(f"{path}: image of mode {found}, expected {what}; is it another folder's?")
    return values


def image(path: Path) -> Tensor:
    """uint8 (3, H, W)."""
    values = opened(path, ("RGB", "RGBA", "L"), "an RGB image, 8 bits")
    return channels_first(np.stack((values,) * 3, -1) if values.ndim == 2 else values[..., :3])


def label(path: Path) -> Tensor:
    values = opened(path, ("L", "P"), "an 8-bit image of one channel: 0 unlabelled, 1 to 13 the classes")
    return classes(path, values.astype(np.int64) - 1)


def depth(path: Path) -> Tensor:
    values = opened(path, ("I;16", "I;16B", "I"), "a 16-bit image of one channel, depth in millimetres")
    return metres(values.astype(np.float32) / 1000)


def normal(path: Path) -> Tensor:
    values = opened(path, ("RGB",), "an RGB image of normals, n = (v − 128) / 127")
    vectors = np.where(values.any(-1, keepdims=True), (values.astype(np.float32) - 128) / 127, np.float32(0))
    return unit(channels_first(vectors))
