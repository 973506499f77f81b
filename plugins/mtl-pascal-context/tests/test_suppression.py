"""Non-maximum suppression: ridges stay, their slopes go."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mtl_pascal_context.suppression import _BORDER, _FACTOR, _interpolated, _orientation, _ramp, _smoothed, suppress


def ridge(angle: float, size: int = 41, width: float = 2.0) -> Any:
    """A straight ridge through the middle; ``angle`` is that of its normal, y down."""
    y, x = np.mgrid[:size, :size] - size // 2
    return np.exp(-((x * math.cos(angle) + y * math.sin(angle)) ** 2) / (2 * width**2))


@pytest.mark.parametrize("degrees", [0, 30, 45, 60, 85, 95, 120, 160])
def test_the_angle_is_the_toolboxs(degrees: float) -> None:
    """Its tangent is the square of the true one's; the sign is the true one's."""
    strength = ridge(math.radians(degrees))
    tangent = math.tan(math.radians(degrees))
    expected = math.atan(math.copysign(tangent**2, tangent)) % math.pi
    found = _orientation(strength)[strength > 0.95]
    apart = np.abs(np.mod(found - expected + math.pi / 2, math.pi) - math.pi / 2)
    assert np.degrees(np.median(apart)) < 3


@pytest.mark.parametrize("degrees", [0, 30, 45, 60, 85, 95, 120])
def test_a_ridge_becomes_a_line(degrees: float) -> None:
    angle = math.radians(degrees)
    strength = ridge(angle)
    found = suppress(strength)
    y, x = np.nonzero(found[10:-10, 10:-10])
    across = (x - 10) * math.cos(angle) + (y - 10) * math.sin(angle)
    assert len(across) >= 20
    assert np.abs(across).max() < 1.1
    assert np.isin(found[10:-10, 10:-10], np.append(strength, 0)).all()


def test_a_ridge_along_the_rows_is_left_to_thinning() -> None:
    """The formula's sign is 0 there, and neighbours along the edge are as strong."""
    strength = ridge(math.pi / 2)
    assert (suppress(np.round(strength, 6))[10:-10, 10:-10] > 0).sum() > 100


def test_strengths_are_turned_down_at_the_border() -> None:
    assert _ramp(14, 5).tolist() == [0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0]
    assert _ramp(4, 2).tolist() == [0, 0.5, 0.5, 0]
    found = suppress(ridge(0.0))
    column = found[:, 20]
    assert column[: _BORDER + 1].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert column[_BORDER:-_BORDER].tolist() == pytest.approx([1] * 31)


def test_smoothing_is_a_triangle() -> None:
    single = np.zeros((21, 21))
    single[10, 10] = 1
    weights = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1]) / 25
    assert np.allclose(_smoothed(single)[6:15, 6:15], np.outer(weights, weights))
    assert _smoothed(np.ones((3, 30))) == pytest.approx(np.ones((3, 30)))


def test_points_between_pixels() -> None:
    values = np.arange(12.0).reshape(3, 4)
    y = np.array([0.5, 1.25, -3.0, 9.0])
    x = np.array([0.5, 2.0, -1.0, 9.0])
    assert _interpolated(values, y, x) == pytest.approx([2.5, 7.0, 0.0, 11.0], abs=0.01)


def test_it_is_what_its_formula_says_pixel_by_pixel() -> None:
    strength = np.random.default_rng(0).random((15, 19)) * (np.random.default_rng(1).random((15, 19)) > 0.3)
    angle = _orientation(strength)
    expected = np.zeros_like(strength)
    for y, x in zip(*np.nonzero(strength), strict=True):
        sides = []
        for side in (-1, 1):
            at_y = y + side * math.sin(angle[y, x])
            at_x = x + side * math.cos(angle[y, x])
            sides.append(float(_interpolated(strength, np.array([at_y]), np.array([at_x]))[0]))
        if strength[y, x] * _FACTOR >= max(sides):
            expected[y, x] = strength[y, x] * _ramp(15, _BORDER)[y] * _ramp(19, _BORDER)[x]
    assert np.allclose(suppress(strength), expected)


def test_a_map_without_room_stays_as_it_is() -> None:
    assert suppress(np.ones((1, 5))).tolist() == [[1] * 5]
