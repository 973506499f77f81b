"""The two forms in which NYU-v2 lies on a disk, read into the same tensors.

Shape letters: H and W image size.

==========  =================================================  ==================================================
            images                                             arrays (as published with MTAN and MTPSL)
==========  =================================================  ==================================================
folders     ``{train,test}/{image,label,depth,normal}``        ``{train,val}/{image,label,depth,normal}``
image       JPEG or PNG                                        ``N.npy`` float (H, W, 3) in 0..1
label       PNG, 0 unlabelled, 1..13                           ``N.npy`` (H, W), −1 unlabelled, 0..12
depth       16-bit PNG, millimetres, 0 invalid                 ``N.npy`` (H, W, 1), metres, 0 invalid
normal      PNG, n = (v − 128) / 127, (0, 0, 0) invalid        ``N.npy`` (H, W, 3), zero vector invalid
==========  =================================================  ==================================================
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mtl_core.errors import DataError

Array = NDArray[Any]
FOLDERS = {"segmentation": "label", "depth": "depth", "normals": "normal"}
CLASSES = 13


@attrs.frozen
class Layout:
    """How one form stores a split; every reader returns (C, H, W) or (H, W)."""

    splits: dict[str, str]
    endings: tuple[str, ...]
    image: Callable[[Path], Tensor]
    readers: dict[str, Callable[[Path], Tensor]]


def open_picture(path: Path, modes: tuple[str, ...], what: str) -> Array:
    try:
        with Image.open(path) as picture:
            found, array = picture.mode, np.asarray(picture)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read as an image ({error}); expected {what}; copy the file again"
        ) from error
    if found not in modes:
        raise DataError(f"{path}: image mode {found}, expected {what}")
    return array


def picture_image(path: Path) -> Tensor:
    array = open_picture(path, ("RGB", "RGBA", "L"), "an RGB image")
    rgb = np.repeat(array[..., None], 3, 2) if array.ndim == 2 else array[..., :3]
    return torch.from_numpy(rgb.transpose(2, 0, 1).copy())


def picture_label(path: Path) -> Tensor:
    return classes(path, open_picture(path, ("L", "P"), "an 8-bit image of classes").astype(np.int64) - 1)


def picture_depth(path: Path) -> Tensor:
    array = open_picture(path, ("I;16", "I;16B", "I"), "a 16-bit image in millimetres")
    return torch.from_numpy(array.astype(np.float32) / 1000)[None]


def picture_normal(path: Path) -> Tensor:
    array = open_picture(path, ("RGB",), "an RGB image of normals")
    vectors = np.where(array.any(-1, keepdims=True), (array.astype(np.float32) - 128) / 127, np.float32(0))
    return unit(torch.from_numpy(vectors.transpose(2, 0, 1).copy()))


def load_array(path: Path, channels: int | None) -> Array:
    expected = "(H, W)" if channels is None else f"(H, W, {channels})"
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as an array ({error}); expected .npy of shape {expected}") from error
    shape = array.shape if channels is None else array.shape[:2]
    if len(shape) != 2 or (channels is not None and array.shape[2:] != (channels,)) or array.dtype.kind not in "fiu":
        raise DataError(f"{path}: array {array.dtype} of shape {array.shape}, expected numbers of shape {expected}")
    return array


def array_image(path: Path) -> Tensor:
    array = load_array(path, 3).astype(np.float32)
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise DataError(f"{path}: image values from {array.min():g} to {array.max():g}, expected 0 to 1")
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def array_label(path: Path) -> Tensor:
    return classes(path, load_array(path, None).astype(np.int64))


def array_depth(path: Path) -> Tensor:
    return torch.from_numpy(load_array(path, 1).astype(np.float32).transpose(2, 0, 1).copy())


def array_normal(path: Path) -> Tensor:
    return unit(torch.from_numpy(load_array(path, 3).astype(np.float32).transpose(2, 0, 1).copy()))


def classes(path: Path, label: Array) -> Tensor:
    if label.size and not (label.min() >= -1 and label.max() < CLASSES):
        raise DataError(
            f"{path}: classes from {label.min()} to {label.max()}, expected −1 (unlabelled) to {CLASSES - 1}"
        )
    return torch.from_numpy(label)


def unit(vectors: Tensor) -> Tensor:
    """Unit vectors (3, H, W); those shorter than 1/2 or not finite are invalid: zero."""
    norm = vectors.norm(dim=0, keepdim=True)
    return torch.where(norm.isfinite() & (norm > 0.5), vectors / norm, torch.zeros_like(vectors))


PICTURES = Layout(
    splits={"train": "train", "test": "test"},
    endings=(".jpg", ".jpeg", ".png"),
    image=picture_image,
    readers={"segmentation": picture_label, "depth": picture_depth, "normals": picture_normal},
)
ARRAYS = Layout(
    splits={"train": "train", "test": "val"},
    endings=(".npy",),
    image=array_image,
    readers={"segmentation": array_label, "depth": array_depth, "normals": array_normal},
)
