"""Pairs of predicted and true boundary pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment

from mtl_pascal_context.boundaries import benchmark_edges
from mtl_pascal_context.matching import (
    FEW_THRESHOLDS,
    THRESHOLDS,
    _above,
    _dilated,
    _disk,
    _largest_matching,
    _strongest_around,
    dilated_counts,
    matched_counts,
)
from mtl_pascal_context.suppression import suppress
from mtl_pascal_context.thinning import Mask, thin

masks = arrays(bool, (7, 8), elements=st.booleans())
radii = st.sampled_from([0.5, 1.0, 1.5, 2.3])
quick = settings(max_examples=80, deadline=None)


def assigned(predicted: Mask, true: Mask, radius: float) -> int:
    """The benchmark's problem as it is posed: everybody has a partner or an outlier's penalty, at the least cost."""
    a = np.argwhere(predicted)
    b = np.argwhere(true)
    if not len(a) or not len(b):
        return 0
    distance = np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1))
    penalty = 100 * radius
    never = 1e9
    costs = np.full((len(a) + len(b), len(b) + len(a)), never)
    costs[: len(a), : len(b)] = np.where(distance <= radius, distance, never)
    np.fill_diagonal(costs[: len(a), len(b) :], penalty)
    np.fill_diagonal(costs[len(a) :, : len(b)], penalty)
    costs[len(a) :, len(b) :] = 0
    rows, columns = linear_sum_assignment(costs)
    return int(((rows < len(a)) & (columns < len(b))).sum())


@quick
@given(masks, masks, radii)
def test_the_largest_matching_is_the_cheapest_assignment(predicted: Mask, true: Mask, radius: float) -> None:
    assert _largest_matching(predicted, true, radius) == assigned(predicted, true, radius)


@pytest.mark.parametrize("seed", range(3))
def test_lines_are_matched_as_the_assignment_does(seed: int) -> None:
    """Maps like those that are evaluated, where pixels compete for partners."""
    predicted = lines(seed, (40, 50))
    true = lines(seed + 100, (40, 50))
    assert _largest_matching(predicted, true, 3.0) == assigned(predicted, true, 3.0)


def lines(seed: int, size: tuple[int, int]) -> Mask:
    rng = np.random.default_rng(seed)
    points = rng.random((6, 2)) * size
    y, x = np.mgrid[: size[0], : size[1]]
    return benchmark_edges(np.argmin([(y - a) ** 2 + (x - b) ** 2 for a, b in points], 0))


def test_a_pixel_has_one_partner() -> None:
    true = np.zeros((9, 9), bool)
    predicted = np.zeros((9, 9), bool)
    true[4, 4] = True
    predicted[3:6, 3:6] = True
    assert _largest_matching(predicted, true, 2.0) == 1


@pytest.mark.parametrize(("radius", "pairs"), [(1.9, 0), (2.0, 9), (2.5, 9)])
def test_a_pair_is_no_farther_apart_than_the_tolerance(radius: float, pairs: int) -> None:
    true = np.zeros((9, 9), bool)
    predicted = np.zeros((9, 9), bool)
    true[:, 3] = predicted[:, 5] = True
    assert _largest_matching(predicted, true, radius) == pairs


def test_nothing_has_no_partner() -> None:
    nothing = np.zeros((5, 5), bool)
    all_of_it = np.ones((5, 5), bool)
    assert _largest_matching(nothing, all_of_it, 2.0) == _largest_matching(all_of_it, nothing, 2.0) == 0
    for counts in (matched_counts, dilated_counts):
        found = counts(np.zeros((5, 5)), all_of_it, 2.0)
        assert (found.predicted.sum(), found.matched.sum(), found.true) == (0, 0, 25)


@quick
@given(masks, radii)
def test_neighbourhoods(mask: Mask, radius: float) -> None:
    near = _dilated(mask, radius)
    strength = np.random.default_rng(0).random(mask.shape)
    strongest = iter(_strongest_around(strength, mask, radius))
    for y, x in np.ndindex(mask.shape):
        close = [(a, b) for a, b in np.ndindex(mask.shape) if math.hypot(a - y, b - x) <= radius]
        assert near[y, x] == any(mask[at] for at in close)
        if mask[y, x]:
            assert next(strongest) == max(strength[at] for at in close)


def test_the_disk_of_the_benchmark() -> None:
    """0.0075 of a diagonal of 625 pixels."""
    assert len(_disk(0.0075 * math.hypot(375, 500))) == 69
    assert _disk(0.9) == [(0, 0)]


def test_a_strength_reaches_its_own_threshold() -> None:
    assert THRESHOLDS[[0, 49, 98]].tolist() == [0.01, 0.5, 0.99]
    found = _above(np.array([0.0, 0.01, 0.5, 0.995]))
    assert [int(found[k]) for k in (0, 1, 49, 50, 98)] == [3, 2, 2, 1, 1]
    assert found.tolist() == [(np.array([0.0, 0.01, 0.5, 0.995]) >= t).sum() for t in THRESHOLDS]


def blurred(true: Mask, noise: float, seed: int) -> Any:
    """A prediction: lines a pixel off, blurred, among noise."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    moved = gaussian_filter(np.roll(true, (1, 1), (0, 1)).astype(float), 1.5) * 2.5
    return np.clip(moved + gaussian_filter(rng.normal(size=true.shape), 2) * noise, 0, 1)


def best_f(counts: Any) -> float:
    f = 2 * counts.matched / np.maximum(counts.predicted + counts.true, 1)
    return float(100 * f.max())


@pytest.mark.parametrize("noise", [0.3, 1.0, 2.0])
def test_few_thresholds_are_those_of_the_many(noise: float) -> None:
    true = lines(3, (90, 120))
    strength = suppress(blurred(true, noise, 0))
    many = matched_counts(strength, true, 2.5)
    few = matched_counts(strength, true, 2.5, FEW_THRESHOLDS)
    assert few.matched.tolist() == many.matched[4::5].tolist()
    assert few.predicted.tolist() == many.predicted[4::5].tolist()
    assert 0 <= best_f(many) - best_f(few) < 1.0
    assert 30 < best_f(many) < 99


@pytest.mark.parametrize("noise", [0.3, 1.0, 2.0])
def test_the_dilated_form_is_near(noise: float) -> None:
    """The page of the data set has figures for real images."""
    true = lines(3, (90, 120))
    strength = suppress(blurred(true, noise, 0))
    exact = matched_counts(strength, true, 2.5)
    estimate = dilated_counts(strength, true, 2.5)
    assert estimate.true == exact.true
    assert abs(best_f(estimate) - best_f(exact)) < 1.5


@quick
@given(masks, masks, radii)
def test_of_the_same_lines_the_dilated_form_bounds_the_exact(predicted: Mask, true: Mask, radius: float) -> None:
    strength = thin(predicted) * 0.7
    exact = matched_counts(strength, true, radius)
    bound = dilated_counts(strength, true, radius)
    assert (bound.predicted == exact.predicted).all()
    assert (bound.matched >= exact.matched).all()
    assert (bound.matched <= np.minimum(bound.predicted, bound.true)).all()
