"""Arrays from ``.npy`` files, with one-line errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mtl_core import DataError
from mtl_data.values import channels_first

_ROUNDING = 1e-3
"""By how much an image may leave 0..1."""


def check_regular(path: Path, expected: str) -> None:
    """Refuse what is no file before it is opened: a pipe would be waited for.

    :raises DataError: there is no such file, or it is a folder, a pipe or a device
    """
    if not path.is_file():
        found = "not a regular file" if path.exists() else "no such file"
        raise DataError(f"{path}: {found}; expected {expected}")


def read_array(path: Path, expected: str, *channels: int) -> NDArray[Any]:
    """The numbers of a ``.npy`` file of shape (H, W, *channels); pickled objects are refused.

    :param expected: what the file has to be, for messages
    :raises DataError: the file is missing, damaged, or of another shape or type
    """
    check_regular(path, expected)
    try:
        with path.open("rb") as file:
            values = np.load(file, allow_pickle=False)
        shape = values.shape
        kind = values.dtype.kind
    except Exception as error:  # damaged files make numpy raise a dozen kinds of error
        raise DataError(
            f"{path}: cannot be read as an array ({type(error).__name__}: {error}); expected {expected}; copy it again"
        ) from error
    if len(shape) != 2 + len(channels) or shape[2:] != channels or 0 in shape or kind not in "fiu":
        raise DataError(f"{path}: {values.dtype} of shape {shape}, expected {expected}; is it another folder's?")
    return np.asarray(values)


def read_unit_image(path: Path) -> Tensor:
    """The image of a ``.npy`` file of shape (H, W, 3): float32 (3, H, W) in 0..1.

    :raises DataError: as :func:`read_array`, and where values lie outside of 0..1
    """
    values = read_array(path, "an image (H, W, 3) of numbers from 0 to 1", 3)
    if not (values.min() >= -_ROUNDING and values.max() <= 1 + _ROUNDING):
        raise DataError(
            f"{path}: image values from {values.min():g} to {values.max():g}, expected 0 to 1;"
            " divide 8-bit values by 255"
        )
    return channels_first(values.astype(np.float32)).clamp(0, 1)
