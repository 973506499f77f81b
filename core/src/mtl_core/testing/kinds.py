"""A kind of task whose head has other channels than its labels, to try plugins on.

Shape letters: B samples, N bins of depth, H and W image size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from mtl_core.tasks.metrics import DepthMetrics
from mtl_core.tasks.segmentation import Segmentation
from mtl_core.tasks.task import Task
from mtl_core.tasks.tasks import Tasks


@attrs.frozen(kw_only=True)
class DepthInBins(Task):
    """Depth as a choice among bins: the head gives N logits, labels are metres (B, 1, H, W), 0 where missing."""

    channels: int = 6
    also_invalid: ClassVar[float | None] = -1.0
    headline: ClassVar[str] = "abs_err"
    errors: ClassVar[frozenset[str]] = frozenset({"abs_err", "rmse", "rel_err", "log_rmse"})
    units: ClassVar[Mapping[str, str]] = {"abs_err": "m", "rmse": "m", "delta1": "%", "delta2": "%", "delta3": "%"}

    @property
    def label_channels(self) -> int:
        return 1

    def centres(self, like: Tensor) -> Tensor:
        """Of the bins, in metres: (1, N, 1, 1)."""
        return torch.linspace(0.5, 3.0, self.channels, device=like.device, dtype=like.dtype).view(1, -1, 1, 1)

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.soft_loss(prediction, self.encode(target))

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        nearest = (target - self.centres(target)).abs().argmin(1)
        return F.cross_entropy(prediction, nearest, reduction="none").unsqueeze(1)

    def label_loss(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target).abs()

    def valid(self, target: Tensor) -> Tensor:
        return target.isfinite() & (target > 0)

    def encode(self, target: Tensor) -> Tensor:
        return torch.where(self.valid(target), target, torch.ones_like(target))

    def to_label_space(self, prediction: Tensor) -> Tensor:
        return (prediction.softmax(1) * self.centres(prediction)).sum(1, keepdim=True)

    def decode(self, prediction: Tensor) -> Tensor:
        return prediction if prediction.shape[1] == 1 else self.to_label_space(prediction)

    def labels_from(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        return (noise.abs() + 0.5).clamp(max=3.0)

    def zoom(self, target: Tensor, scale: float | Tensor) -> Tensor:
        return target / scale

    def metrics(self) -> Metric:
        return BinMetrics(self)


class BinMetrics(DepthMetrics):
    """Depth's metrics of what a head with bins gives."""

    def __init__(self, task: DepthInBins) -> None:
        super().__init__(task.valid, None)
        self.task = task

    def update(self, prediction: Tensor, target: Tensor) -> None:
        super().update(self.task.to_label_space(prediction), target)


def other_channels() -> Tasks:
    """Segmentation, and depth whose head has six channels."""
    return Tasks([Segmentation(name="segmentation", channels=5), DepthInBins(name="depth")])
