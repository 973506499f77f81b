"""Pictures from files, with one-line errors.

Shape letters: H and W image size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mtl_core import DataError
from mtl_data.arrays import check_regular
from mtl_data.values import channels_first


def read_picture(path: Path, modes: Sequence[str], expected: str) -> NDArray[Any]:
    """The numbers of a picture, (H, W) or (H, W, channels), as the file stores them.

    :param modes: Pillow's names of the modes that are accepted, such as ``("L", "P")`` or ``("I;16", "I")``
    :param expected: what the file has to be, for messages
    :raises DataError: the file is missing, damaged, or of another mode
    """
    check_regular(path, expected)
    try:
        with Image.open(path) as picture:
            found = picture.mode
            values = np.asarray(picture)
    except Exception as error:  # damaged files make the decoders raise a dozen kinds of error
        reason = str(error).replace(f" {str(path)!r}", "")
        raise DataError(f"{path}: cannot be read as an image ({reason}); expected {expected}; copy it again") from error
    if found not in modes:
        raise DataError(f"{path}: image of mode {found}, expected {expected}; is it another folder's?")
    return values


def read_rgb(path: Path) -> Tensor:
    """An image as uint8 (3, H, W); grey is repeated, transparency dropped."""
    values = read_picture(path, ("RGB", "RGBA", "L"), "an RGB image, 8 bits")
    return channels_first(np.stack((values,) * 3, -1) if values.ndim == 2 else values[..., :3])
