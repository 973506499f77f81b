"""A value per pixel, and depth.

Shape letters: B samples, O channels of the task, H and W image size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_core.tasks.metrics import DepthMetrics, RegressionMetrics
from mtl_core.tasks.pictures import Pixels, graded
from mtl_core.tasks.task import Task

if TYPE_CHECKING:
    from torchmetrics import Metric

_METRES = ("abs_err", "rmse")
"""Metrics in the unit of the label."""


@attrs.frozen(kw_only=True)
class Regression(Task):
    """A value per pixel: labels float (B, O, H, W), NaN where invalid; L1."""

    ignored: ClassVar[float] = float("nan")
    also_invalid: ClassVar[float | None] = float("inf")
    headline: ClassVar[str] = "abs_err"
    errors: ClassVar[frozenset[str]] = frozenset({"abs_err", "rmse"})

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.soft_loss(prediction, self.encode(target))

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs().mean(1, keepdim=True)

    def valid(self, target: Tensor) -> Tensor:
        return target.isfinite().all(1, keepdim=True)

    def encode(self, target: Tensor) -> Tensor:
        return torch.where(self.valid(target), target, torch.zeros_like(target))

    def metrics(self) -> Metric:
        return RegressionMetrics(self.valid)


@attrs.frozen(kw_only=True)
class Depth(Regression):
    """Metric depth in metres: labels float (B, 1, H, W), 0 where missing; L1.

    :param disparity: a disparity, which a zoom enlarges
    :param clamp: predictions are at least this much before they are scored; None: they are scored as they are.
        Released evaluation codes clamp at 1e-9: a negative prediction is no more wrong there than depth 0
    """

    channels: int = 1
    disparity: bool = False
    clamp: float | None = None
    ignored: ClassVar[float] = 0.0
    also_invalid: ClassVar[float | None] = -3.0
    errors: ClassVar[frozenset[str]] = frozenset({"abs_err", "rmse", "rel_err", "log_rmse"})
    units: ClassVar[Mapping[str, str]] = {"delta1": "%", "delta2": "%", "delta3": "%"}

    def valid(self, target: Tensor) -> Tensor:
        return target.isfinite() & (target > 0)

    def unit(self, metric: str) -> str:
        return "m" if metric in _METRES and not self.disparity else super().unit(metric)

    def labels_from(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        return noise.abs() + 0.5

    def metrics(self) -> Metric:
        return DepthMetrics(self.valid, self.clamp)

    def picture(self, label: Tensor, limits: tuple[float, float]) -> Pixels:
        return graded(label.numpy().mean(0), *limits)

    @property
    def file_ending(self) -> str:
        return ".npy" if self.disparity else ".png"

    def export(self, label: Tensor) -> NDArray[Any]:
        """Depth as 16-bit millimetres; a disparity as numbers."""
        if self.disparity:
            return super().export(label)
        millimetres: NDArray[Any] = (label.numpy()[0] * 1000).clip(0, 65535).astype(np.uint16)
        return millimetres

    def zoom(self, target: Tensor, scale: float | Tensor) -> Tensor:
        return target * scale if self.disparity else target / scale
