"""Files of images and labels as numbers, whatever their form.

Shape letters: C channels, H and W image size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mtl_core import DataError
from mtl_data import channels_first, check_regular, read_picture
from mtl_folder.patterns import ARRAYS

_MODES = ("1", "L", "P", "LA", "I;16", "I;16B", "I;16L", "I", "F", "RGB", "RGBA", "CMYK", "YCbCr")
_TO_RGB = ("1", "P", "PA", "LA", "CMYK", "YCbCr", "HSV", "LAB")
"""Pillow's modes of images that are RGB in another form, 8 bits."""
_LARGEST = 255.0


class Unfit(Exception):
    """Values that are not what the description says.

    :param found: what the file holds
    :param expected: what the task needs
    :param remedy: what to write, or to do with the files
    """

    def __init__(self, found: str, expected: str, remedy: str) -> None:
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(f"{found}; expected {expected}; {remedy}")


@attrs.frozen(eq=False)
class Raw:
    """What a file of labels holds.

    :param values: (H, W) or (H, W, C), as stored
    """

    path: Path
    values: NDArray[Any]

    @property
    def is_whole(self) -> bool:
        """Whether the file stores whole numbers, as pictures mostly do."""
        return self.values.dtype.kind in "iub"

    @property
    def form(self) -> str:
        """Type and shape in a reader's words."""
        kind = {"f": "float", "b": "true-or-false"}.get(self.values.dtype.kind, "whole-number")
        size = f"{kind} values of {8 * self.values.dtype.itemsize} bits"
        return f"{size}, {'one channel' if self.values.ndim == 2 else f'{self.values.shape[2]} channels'}"


def read_raw(path: Path) -> Raw:
    """A label file.

    :raises DataError: the file is missing, damaged, or of a form that no label has
    """
    values = (
        _array(path) if path.suffix.lower() in ARRAYS else read_picture(path, _MODES, "a label, as picture or .npy")
    )
    if values.dtype.byteorder == ">":
        values = values.astype(values.dtype.newbyteorder("="))
    if values.ndim == 3 and values.shape[2] in (2, 4) and values.dtype == np.uint8:
        values = values[..., :-1]  # transparency says nothing about a label
    return Raw(path, values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values)


def read_image(path: Path, limits: tuple[float, float] | None) -> Tensor:
    """An image, uint8 (3, H, W), or float in 0..1 where the file is not of 8 bits.

    :param limits: what black and white are in a file that is not of 8 bits; None: 0 and 1
    :raises DataError: the file is missing, damaged, or no image
    :raises Unfit: other values or channels than an image has
    """
    values = _array(path) if path.suffix.lower() in ARRAYS else _picture(path)
    if values.ndim == 2:
        values = np.stack((values,) * 3, -1)
    if values.shape[2] == 1:
        values = np.repeat(values, 3, 2)
    if values.shape[2] == 4 and values.dtype == np.uint8:
        values = values[..., :3]
    if values.shape[2] != 3:
        raise Unfit(
            f"an image of {values.shape[2]} channels", "RGB or grey", "choose three of them, or write RGB files"
        )
    if values.dtype == np.uint8:
        return channels_first(values)
    return _scaled(channels_first(values.astype(np.float32)), values.dtype, limits)


def _scaled(image: Tensor, stored: np.dtype[Any], limits: tuple[float, float] | None) -> Tensor:
    low = float(image.min())
    high = float(image.max())
    if not np.isfinite((low, high)).all():
        raise Unfit("an image with NaN or infinite values", "finite numbers", "write the file again")
    black, white = limits or (0.0, 1.0)
    if low < black or high > white:
        top = _LARGEST if 1 < high <= _LARGEST and low >= 0 else high
        remedy = f"write image_range = [{min(low, 0.0):g}, {top:g}], or mend the file"
        raise Unfit(f"{stored} values {low:g} to {high:g}", f"{black:g} to {white:g}", remedy)
    return (image - black) / (white - black)


def _picture(path: Path) -> NDArray[Any]:
    """A picture's numbers; palettes and other forms of 8-bit colour become RGB."""
    expected = "an image, RGB or grey"
    check_regular(path, expected)
    try:
        with Image.open(path) as picture:
            if picture.mode in _TO_RGB:
                return np.asarray(picture.convert("RGB"))
    except Exception:
        pass  # read_picture says what is wrong
    return read_picture(path, _MODES, expected)


def _array(path: Path) -> NDArray[Any]:
    """The numbers of a ``.npy`` file, (H, W) or (H, W, C); channels first become last where that is clear."""
    expected = "an array (height, width) or (height, width, channels)"
    check_regular(path, expected)
    try:
        with path.open("rb") as file:
            values: NDArray[Any] = np.load(file, allow_pickle=False)
    except Exception as error:  # damaged files make numpy raise a dozen kinds of error
        raise DataError(f"{path}: cannot be read as an array ({error}); expected {expected}; copy it again") from error
    if not hasattr(values, "dtype") or values.dtype.kind not in "fiub":
        raise DataError(f"{path}: an array of {getattr(values, 'dtype', 'several arrays')}; expected numbers")
    if values.ndim == 3 and values.shape[0] in (1, 3) and values.shape[2] not in (1, 3):
        values = values.transpose(1, 2, 0)
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise DataError(f"{path}: an array of shape {values.shape}; expected {expected}; is it another folder's?")
    return values


def colours(path: Path) -> NDArray[np.int64]:
    """The colours of a picture as numbers 0xRRGGBB, (H, W).

    :raises DataError: the file is missing or damaged
    """
    values = _picture(path) if path.suffix.lower() not in ARRAYS else _array(path)
    if values.ndim == 2:
        values = np.stack((values,) * 3, -1)
    red, green, blue = (values[..., c].astype(np.int64) for c in range(3))
    return (red << 16) | (green << 8) | blue


def size_of(values: Tensor) -> tuple[int, int]:
    """(H, W) of an image or a label."""
    return int(values.shape[-2]), int(values.shape[-1])


def pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]} pixels"
