"""Morphological thinning of binary maps.

Shape letters: H and W image size.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
_Indices = NDArray[np.intp]


def thin(mask: Mask) -> Mask:
    """Lines of one pixel's width, thinned until nothing changes: bool (H, W).

    Guo and Hall, *Parallel thinning with two-subiteration algorithms*, Communications of the ACM 1989, algorithm A1:
    what MATLAB's ``bwmorph(…, 'thin', Inf)`` and ``skimage.morphology.thin`` compute. Only pixels that are set are
    looked at, so that the cost grows with the lines and not with the image.
    """
    height, width = mask.shape
    padded = np.zeros((height + 2, width + 2), bool)
    padded[1:-1, 1:-1] = mask
    flat = padded.reshape(-1)
    steps = _neighbours(width + 2)
    on = np.flatnonzero(flat)
    before = -1
    while len(on) != before:
        before = len(on)
        for table in (_FIRST, _SECOND):
            removed = table[_codes(flat, on, steps)]
            flat[on[removed]] = False
            on = on[~removed]
    return padded[1:-1, 1:-1].copy()


def _neighbours(width: int) -> tuple[int, ...]:
    """Steps to the eight neighbours in a flat image: east first, then counter-clockwise as displayed."""
    return (1, 1 - width, -width, -width - 1, -1, width - 1, width, width + 1)


def _codes(flat: Mask, on: _Indices, steps: tuple[int, ...]) -> NDArray[np.uint8]:
    """Each pixel's neighbourhood as a number: bit k is neighbour x_{k+1} of the paper."""
    codes = np.zeros(len(on), np.uint8)
    for bit, step in enumerate(steps):
        codes |= flat[on + step].view(np.uint8) << bit
    return codes


def _table(removable: Callable[[list[bool]], bool]) -> Mask:
    """Whether the middle of each of the 256 neighbourhoods goes."""
    return np.array([_removable(code, removable) for code in range(256)])


def _removable(code: int, third: Callable[[list[bool]], bool]) -> bool:
    """Conditions G1 to G3 of the paper; ``third`` is G3, which differs between the two subiterations."""
    x = [bool(code >> bit & 1) for bit in range(8)]
    crossings = sum(not x[i] and (x[i + 1] or x[(i + 2) % 8]) for i in range(0, 8, 2))
    first = sum(x[i] or x[i + 1] for i in range(0, 8, 2))
    second = sum(x[i + 1] or x[(i + 2) % 8] for i in range(0, 8, 2))
    return crossings == 1 and 2 <= min(first, second) <= 3 and third(x)


def _north_east(x: list[bool]) -> bool:
    return not ((x[1] or x[2] or not x[7]) and x[0])


def _south_west(x: list[bool]) -> bool:
    return not ((x[5] or x[6] or not x[3]) and x[4])


_FIRST = _table(_north_east)
_SECOND = _table(_south_west)
