"""Correspondence of predicted and true boundary pixels.

D. R. Martin, C. C. Fowlkes and J. Malik, *Learning to Detect Natural Image Boundaries Using Local Brightness, Color,
and Texture Cues*, PAMI 2004: pixels of the two maps are matched one to one at the least cost, where no pair is farther
apart than a tolerance and a pixel without a partner costs 100 tolerances. Precision and recall count the pixels that
have one.

Shape letters: H and W image size, P predicted and T true boundary pixels.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from mtl_pascal_context.thinning import Mask, thin

_Map = NDArray[np.floating[Any]]
_Positions = NDArray[np.intp]
_Numbers = NDArray[np.int64]

THRESHOLDS = np.arange(1, 100) / 100
FEW_THRESHOLDS = THRESHOLDS[4::5]
"""0.05, 0.1 … 0.95."""


@attrs.frozen(eq=False)
class Counts:
    """What one image adds to a curve, for every threshold.

    :param predicted: boundary pixels above the threshold
    :param matched: pairs of a predicted and a true pixel
    :param true: boundary pixels of the label
    """

    predicted: _Numbers
    matched: _Numbers
    true: int


def matched_counts(strength: _Map, true: Mask, radius: float, thresholds: _Map = THRESHOLDS) -> Counts:
    """The largest matching at every threshold.

    :param strength: edge strengths (H, W) in 0..1
    :param true: boundary pixels (H, W)
    :param radius: the tolerance in pixels
    """
    levels = [thin(strength >= threshold) for threshold in thresholds]
    predicted = np.array([np.count_nonzero(level) for level in levels])
    matched = np.array([_largest_matching(level, true, radius) for level in levels])
    return Counts(predicted, matched, int(true.sum()))


def dilated_counts(ridges: _Map, true: Mask, radius: float) -> Counts:
    """An estimate from above, at a thirtieth of the cost: a pixel is near or not, whoever else is near its partner.

    At each threshold the pairs are no more than the predicted pixels near a true one, and no more than the true pixels
    near a predicted one; the smaller number stands for them. The map is thinned once and not at every threshold.

    :param ridges: edge strengths (H, W) after non-maximum suppression
    """
    lines = thin(ridges >= THRESHOLDS[0])
    strength = np.where(lines, ridges, 0)
    near_true = _dilated(true, radius)
    predicted = _above(strength[lines])
    hits = _above(strength[lines & near_true])
    found = _above(_strongest_around(strength, true, radius))
    return Counts(predicted, np.minimum(hits, found), int(true.sum()))


def _above(values: _Map) -> _Numbers:
    """How many values reach each threshold: (99,)."""
    reached = np.searchsorted(THRESHOLDS, values, side="right")
    counts = np.bincount(reached, minlength=len(THRESHOLDS) + 1)
    return np.ascontiguousarray(counts[::-1].cumsum()[::-1][1:])


def _largest_matching(predicted: Mask, true: Mask, radius: float) -> int:
    """How many pairs the best one-to-one matching has.

    A pair saves a penalty of 100 tolerances and makes each of the others longer by a tolerance at most, so that the
    least cost comes with the largest number of pairs; it is a maximum flow through the pairs, and the distances do not
    matter.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    rows, columns = _pairs(predicted, true, radius)
    if not len(rows):
        return 0
    source = 0
    first = 1 + np.count_nonzero(predicted)
    end = 1 + np.count_nonzero(predicted) + np.count_nonzero(true)
    starts = np.concatenate((np.full(first - 1, source), 1 + rows, np.arange(first, end)))
    ends = np.concatenate((np.arange(1, first), first + columns, np.full(end - first, end)))
    graph = csr_array((np.ones(len(starts), np.int32), (starts, ends)), shape=(end + 1, end + 1))
    return int(maximum_flow(graph, source, end, method="dinic").flow_value)


def _pairs(predicted: Mask, true: Mask, radius: float) -> tuple[_Positions, _Positions]:
    """Every pair within the radius, as positions among the P and among the T pixels in the order of rows."""
    reach = math.floor(radius)
    number = np.pad(np.where(true, np.cumsum(true).reshape(true.shape) - 1, -1), reach, constant_values=-1)
    y, x = np.nonzero(predicted)
    rows = []
    columns = []
    for down, right in _disk(radius):
        partner = number[y + reach + down, x + reach + right]
        row = np.flatnonzero(partner >= 0)
        rows.append(row)
        columns.append(partner[row])
    return np.concatenate(rows), np.concatenate(columns)


def _strongest_around(strength: _Map, at: Mask, radius: float) -> _Map:
    """The largest strength within the radius of each marked pixel: (T,)."""
    reach = math.floor(radius)
    padded = np.pad(strength, reach)
    y, x = np.nonzero(at)
    best = np.zeros(len(y), strength.dtype)
    for down, right in _disk(radius):
        np.maximum(best, padded[y + reach + down, x + reach + right], out=best)
    return best


def _dilated(mask: Mask, radius: float) -> Mask:
    """Pixels within the radius of a marked one (H, W)."""
    reach = math.floor(radius)
    height, width = mask.shape
    padded = np.pad(mask, reach)
    near = np.zeros_like(mask)
    for down, right in _disk(radius):
        near |= padded[reach + down : reach + down + height, reach + right : reach + right + width]
    return near


def _disk(radius: float) -> list[tuple[int, int]]:
    """Steps (down, right) to all pixels within a radius."""
    reach = range(-math.floor(radius), math.floor(radius) + 1)
    return [(y, x) for y in reach for x in reach if math.hypot(y, x) <= radius]
