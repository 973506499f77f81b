"""What one run gave, and the mean of several. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import attrs

LOWER_IS_BETTER = frozenset({"abs_err", "rmse", "rel_err", "mean_angle", "median_angle"})
"""Metrics of core's tasks that are better when lower."""

Spread = tuple[float, float | None]
"""Mean and standard deviation over seeds (None for one seed)."""

MISSING: Spread = (math.nan, None)
"""Where no run has a value."""


@attrs.frozen
class Result:
    """What one run gave."""

    folder: Path
    name: str
    seed: int
    split: str
    metrics: dict[str, float]
    headline: dict[str, bool]
    counts_for: tuple[str, ...] = ()
    level: str | None = None
    checkpoint: str = "last"
    units: dict[str, str] = attrs.field(factory=dict)
    directions: dict[str, bool] = attrs.field(factory=dict)
    """``task/metric`` → whether it is better when higher, as the task says."""

    def better_when_higher(self, metric: str) -> bool:
        """The direction of a metric; runs of older versions did not record it."""
        return self.directions.get(metric, metric.rpartition("/")[2] not in LOWER_IS_BETTER)

    @property
    def all_directions(self) -> dict[str, bool]:
        """Every metric → whether it is better when higher."""
        return {metric: self.better_when_higher(metric) for metric in self.metrics} | self.headline

    @property
    def evaluated_on(self) -> tuple[str, str]:
        """(split, checkpoint)"""
        return self.split, self.checkpoint


def best_of(values: Iterable[float], higher_is_better: bool | None) -> float | None:
    """The best of the values that are numbers; None where there are not two, or nothing says which way is better."""
    known = [value for value in values if not math.isnan(value)]
    if higher_is_better is None or len(known) < 2:
        return None
    return max(known) if higher_is_better else min(known)


def with_unit(metric: str, unit: str | None) -> str:
    """A metric's name with its unit, if it has one."""
    return f"{metric} {unit}" if unit else metric
