"""What the values of a label may be, whatever file they come from.

Shape letters: H and W image size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_core import DataError
from mtl_nyuv2.official import names_of, tables

Array = NDArray[Any]


def classes(where: object, values: Array, count: int = 13) -> Tensor:
    """Classes (H, W) as int64, −1 where unlabelled.

    :param where: the file, for messages
    :param values: numbers of any kind
    :param count: 13 or 40
    :raises DataError: a value that is no class
    """
    last = count - 1
    wrong = values[~((values >= -1) & (values <= last) & (values == np.round(values)))]
    if wrong.size:
        other = "set plugins.nyuv2.classes to 40, or use" if count == 13 else "use"
        raise DataError(
            f"{where}: {wrong.size} pixels of no class, the first {wrong.flat[0]:g}; expected whole numbers from"
            f" −1 (unlabelled) to {last} ({names_of(count)[last]}); {other} the labels of the {count}-class version"
        )
    return torch.from_numpy(values.astype(np.int64))


def from_numbers(where: object, values: Array, known: int, count: int) -> Tensor:
    """Classes (H, W) from the data set's own numbers, 0 where unlabelled.

    :param values: whole numbers
    :param known: 894, the numbers of the official file, or 40
    :param count: 13 or 40 classes that they are put together to
    :raises DataError: a number that does not exist
    """
    if values.size and not 0 <= values.min() <= values.max() <= known:
        raise DataError(
            f"{where}: class numbers from {values.min()} to {values.max()}, expected 0 (unlabelled) to {known};"
            " copy the file again"
        )
    return torch.from_numpy(tables(known, count)[values] - 1)
