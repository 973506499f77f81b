"""Non-maximum suppression of edge strengths, as Dollár and Zitnick's toolbox has it and SEISM uses it.

P. Dollár and C. L. Zitnick, *Fast Edge Detection Using Structured Forests*, PAMI 2015. SEISM's reader of edge maps
calls it with radius 1, a border of 5 pixels and the factor 1.01; these are the constants below.

Shape letters: H and W image size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Map = NDArray[np.floating[Any]]

_SMOOTHING = 4
"""Radius of the triangle filter that orientations are taken from, pixels."""
_BORDER = 5
"""Strengths of so many pixels at the image's border are turned down linearly."""
_FACTOR = 1.01
"""A pixel stays if its strength, times this, is not below its neighbours' across the edge."""


def suppress(strength: _Map) -> _Map:
    """Edge strengths (H, W), zero where the edge is stronger on one of its sides."""
    if min(strength.shape) < 2:  # too small to have a direction
        return strength
    angle = _orientation(strength)
    y, x = np.nonzero(strength)
    across_x = np.cos(angle[y, x])
    across_y = np.sin(angle[y, x])
    own = strength[y, x] * _FACTOR
    kept = np.ones(len(own), bool)
    for side in (-1, 1):
        kept &= own >= _interpolated(strength, y + side * across_y, x + side * across_x)
    ridges = np.zeros_like(strength)
    ridges[y[kept], x[kept]] = strength[y[kept], x[kept]]
    border = min(_BORDER, *(side // 2 for side in strength.shape))
    return ridges * _ramp(strength.shape[0], border)[:, None] * _ramp(strength.shape[1], border)[None]


def _orientation(strength: _Map) -> _Map:
    """Angle across the edge (H, W), 0 to π, from the second derivatives of the smoothed strengths.

    The toolbox's formula: its tangent is the square of the true one's, which is exact for multiples of 45° and 13° off
    at most, and the angle is 0 where an edge runs exactly along the rows.
    """
    d_y, d_x = np.gradient(_smoothed(strength))
    d_xx = np.gradient(d_x, axis=1)
    d_yy, d_xy = np.gradient(d_y)
    angle: _Map = np.mod(np.arctan(d_yy * np.sign(-d_xy) / (d_xx + 1e-5)), np.pi)
    return angle


def _smoothed(strength: _Map) -> _Map:
    """Filtered with a triangle along both axes; the border is mirrored, its pixels included."""
    from scipy.ndimage import correlate1d

    triangle = np.concatenate((np.arange(1, _SMOOTHING + 1), np.arange(_SMOOTHING + 1, 0, -1))) / (_SMOOTHING + 1) ** 2
    once = correlate1d(strength, triangle, axis=0, mode="reflect")
    found: _Map = correlate1d(once, triangle, axis=1, mode="reflect")
    return found


def _interpolated(values: _Map, y: _Map, x: _Map) -> _Map:
    """Bilinear values at points, those outside at the border."""
    height, width = values.shape
    y = np.clip(y, 0, height - 1.001)
    x = np.clip(x, 0, width - 1.001)
    top = y.astype(np.intp)
    left = x.astype(np.intp)
    down = y - top
    right = x - left
    below = np.minimum(top + 1, height - 1)
    beside = np.minimum(left + 1, width - 1)
    upper = values[top, left] * (1 - right) + values[top, beside] * right
    lower = values[below, left] * (1 - right) + values[below, beside] * right
    found: _Map = upper * (1 - down) + lower * down
    return found


def _ramp(length: int, border: int) -> _Map:
    """Factors along one axis: 0 at both ends, 1 from ``border`` pixels on."""
    steps = np.arange(length)
    return np.minimum(np.minimum(steps, steps[::-1]) / border, 1.0)
