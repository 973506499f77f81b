"""A value per pixel, and depth.

Shape letters: B samples, O channels of the task, H and W image size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs
import numpy as np
import torch
from attrs import field
from attrs.validators import ge, le
from numpy.typing import NDArray
from torch import Tensor

from mtl_core.tasks import losses
from mtl_core.tasks.metrics import DepthMetrics, RegressionMetrics
from mtl_core.tasks.pictures import Pixels, graded
from mtl_core.tasks.precision import constant, is_finite
from mtl_core.tasks.task import Task, setting

if TYPE_CHECKING:
    from torchmetrics import Metric

_METRES = ("abs_err", "rmse")
"""Metrics in the unit of the label."""


@attrs.frozen(kw_only=True)
class Regression(Task):
    """A value per pixel: labels float (B, O, H, W), NaN where invalid; L1.

    :param objective: the loss, ``"l1"``, ``"l2"`` or ``"berhu"`` (option ``loss``)
    """

    objective: Literal["l1", "l2", "berhu"] = field(default="l1", alias="loss", metadata=setting("the loss"))
    ignored: ClassVar[float] = float("nan")
    also_invalid: ClassVar[float | None] = float("inf")
    headline: ClassVar[str] = "abs_err"
    errors: ClassVar[frozenset[str]] = frozenset({"abs_err", "rmse"})

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.error(prediction, self.encode(target), partial(self.valid, target))

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.error(prediction, target, lambda: constant(True, target.device).expand_as(target[:, :1]))

    def error(self, prediction: Tensor, target: Tensor, valid: Callable[[], Tensor]) -> Tensor:
        """The chosen loss of every pixel (B, 1, H, W) against a target that is finite everywhere.

        :param valid: gives the pixels that count, bool (B, 1, H, W); a function, since most losses do not need it
        """
        if self.objective == "berhu":
            return losses.berhu(prediction, target, valid())
        return losses.l2(prediction, target) if self.objective == "l2" else losses.l1(prediction, target)

    def valid(self, target: Tensor) -> Tensor:
        finite = is_finite(target)
        # most have one channel, for which `all` would be a slow kernel for nothing
        return finite if finite.shape[1] == 1 else finite.all(1, keepdim=True)

    def encode(self, target: Tensor) -> Tensor:
        # one kernel; by `valid` it would be three or four
        return target.nan_to_num(0.0, 0.0, 0.0)

    def metrics(self) -> Metric:
        return RegressionMetrics(self.valid)


@attrs.frozen(kw_only=True)
class Depth(Regression):
    """Metric depth in metres: labels float (B, 1, H, W), 0 where missing; L1.

    :param disparity: a disparity, which a zoom enlarges
    :param clamp: predictions are at least this much before they are scored; None: they are scored as they are.
        Released evaluation codes clamp at 1e-9: a negative prediction is no more wrong there than depth 0
    :param objective: the loss, one of :class:`Regression`'s or ``"silog"`` (option ``loss``)
    :param silog_lambda: λ of the scale-invariant logarithmic error
    """

    channels: int = 1
    disparity: bool = False
    clamp: float | None = field(default=None, metadata=setting("predictions are at least this much when scored"))
    objective: Literal["l1", "l2", "berhu", "silog"] = field(  # type: ignore[assignment]  # one loss more
        default="l1", alias="loss", metadata=setting("the loss")
    )
    silog_lambda: float = field(
        default=0.5, validator=[ge(0.0), le(1.0)], metadata=setting("λ of silog: 1 leaves an error of scale free")
    )
    ignored: ClassVar[float] = 0.0
    also_invalid: ClassVar[float | None] = -3.0
    errors: ClassVar[frozenset[str]] = frozenset({"abs_err", "rmse", "rel_err", "log_rmse"})
    units: ClassVar[Mapping[str, str]] = {"delta1": "%", "delta2": "%", "delta3": "%"}

    def error(self, prediction: Tensor, target: Tensor, valid: Callable[[], Tensor]) -> Tensor:
        if self.objective == "silog":
            return losses.silog(prediction, target, valid(), self.silog_lambda)
        return super().error(prediction, target, valid)

    def valid(self, target: Tensor) -> Tensor:
        # false for NaN too: comparisons with it are
        return (target > 0) & (target < math.inf)

    def encode(self, target: Tensor) -> Tensor:
        return super().encode(target).clamp(min=0)

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
