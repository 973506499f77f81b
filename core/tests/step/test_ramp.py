"""A factor that grows in the first part of a run."""

from __future__ import annotations

import math

import pytest

from mtl_core.step.ramp import ramp_up


@pytest.mark.parametrize(("progress", "factor"), [(0.0, math.exp(-5)), (0.1, math.exp(-5 * 0.25)), (0.2, 1.0)])
def test_the_sigmoid_ramp_of_temporal_ensembling(progress: float, factor: float) -> None:
    assert ramp_up(progress, 0.2) == pytest.approx(factor)


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 0.0), (0.1, 0.5), (0.2, 1.0), (0.9, 1.0)])
def test_the_linear_ramp(progress: float, factor: float) -> None:
    assert ramp_up(progress, 0.2, "linear") == pytest.approx(factor)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_without_a_ramp_the_factor_is_exactly_one(progress: float) -> None:
    assert ramp_up(progress, 0.0) == 1.0
