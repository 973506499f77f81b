"""A kind of task that core lacks: numbers per image.

Shape letters: B samples, O values of the task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import attrs
import torch
from torch import Tensor
from torchmetrics import Metric

from mtl_core import Task, masked_mean, setting

_NAN = float("nan")


@attrs.frozen(kw_only=True)
class ImageRegression(Task):
    """O numbers per image: labels float (B, O), NaN where missing; L1 or L2.

    The head gives (value − ``mean``) / ``deviation``, so that it begins near the right size; losses are in deviations,
    predictions and metrics in the labels' unit. An image of which some of the O values are missing counts for the
    others in loss and metrics; :meth:`valid`, which regularizers ask, is True where all are there.

    :param outputs: names of the O values, or empty
    :param measured_in: unit of the values
    :param error: the loss, ``"l1"`` or ``"l2"``
    :param mean: of each value, or empty for 0
    :param deviation: of each value, or empty for 1
    """

    outputs: tuple[str, ...] = ()
    measured_in: str = ""
    error: Literal["l1", "l2"] = attrs.field(default="l1", metadata=setting("the loss"))
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    dense: ClassVar[bool] = False
    ignored: ClassVar[float] = _NAN
    headline: ClassVar[str] = "abs_err"
    errors: ClassVar[frozenset[str]] = frozenset({"abs_err", "rmse"})

    def unit(self, metric: str) -> str:
        return self.measured_in if metric in self.errors else super().unit(metric)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        known = target.isfinite()
        return masked_mean(self._error(prediction, torch.where(known, target, torch.zeros_like(target))), known)

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Loss of every image (B, 1)."""
        return self.soft_loss(prediction, self.encode(target))

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Loss of every image (B, 1) against values in the labels' unit."""
        return self._error(prediction, target).mean(1, keepdim=True)

    def _error(self, prediction: Tensor, target: Tensor) -> Tensor:
        difference = prediction - (target - self._row(self.mean, target, 0.0)) / self._row(self.deviation, target, 1.0)
        return difference.abs() if self.error == "l1" else difference.square()

    def _row(self, values: tuple[float, ...], like: Tensor, otherwise: float) -> Tensor | float:
        # a scalar tensor per value would be copied to the device in every step; full_like fills there
        if not values:
            return otherwise
        if len(values) == 1:
            return values[0]
        return torch.stack([torch.full_like(like[..., 0], value) for value in values], -1)

    def valid(self, target: Tensor) -> Tensor:
        return target.isfinite().all(1, keepdim=True)

    def to_label_space(self, prediction: Tensor) -> Tensor:
        scaled = prediction * self._row(self.deviation, prediction, 1.0)
        return scaled + self._row(self.mean, prediction, 0.0)

    def encode(self, target: Tensor) -> Tensor:
        return torch.where(target.isfinite(), target, torch.zeros_like(target))

    def metrics(self) -> Metric:
        return _ValueErrors(self.channels, self.to_label_space)


class _ValueErrors(Metric):
    """Mean absolute and root mean square error, and R², of numbers per image, in the labels' unit.

    R² = 1 − Σ(y − ŷ)² / Σ(y − ȳ)² for each of the O values, then their mean; NaN where all labels are equal.

    :param channels: O
    :param to_label_space: what a head gives, in the labels' unit
    """

    full_state_update = False
    absolute: Tensor
    squared: Tensor
    count: Tensor
    total: Tensor
    total_squared: Tensor

    def __init__(self, channels: int, to_label_space: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.to_label_space = to_label_space
        for name in ("absolute", "squared", "count", "total", "total_squared"):
            self.add_state(name, torch.zeros(channels, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Both (B, O)."""
        known = target.isfinite()
        label = torch.where(known, target, torch.zeros_like(target)).double()
        error = torch.where(known, self.to_label_space(prediction).double() - label, torch.zeros_like(label))
        self.absolute += error.abs().sum(0)
        self.squared += error.square().sum(0)
        self.count += known.sum(0)
        self.total += label.sum(0)
        self.total_squared += label.square().sum(0)

    def compute(self) -> dict[str, Tensor]:
        count = self.count.sum()
        spread = self.total_squared - self.total.square() / self.count
        explained = torch.where(spread > 1e-9 * self.total_squared, 1 - self.squared / spread, torch.nan)
        return {
            "abs_err": self.absolute.sum() / count,
            "rmse": (self.squared.sum() / count).sqrt(),
            "r2": explained.nanmean(),
        }
