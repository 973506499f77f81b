"""Semantic segmentation.

Shape letters: B samples, C classes, H and W image size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mtl_core.tasks.metrics import ConfusionMetrics
from mtl_core.tasks.pictures import Pixels, palette
from mtl_core.tasks.task import Task, class_problem

if TYPE_CHECKING:
    from torchmetrics import Metric


@attrs.frozen(kw_only=True)
class Segmentation(Task):
    """Semantic segmentation: labels long (B, H, W), −1 where unlabelled; cross-entropy."""

    classes: tuple[str, ...] = ()
    ignored: ClassVar[float] = -1
    also_invalid: ClassVar[float | None] = -7
    label_dtype: ClassVar[torch.dtype] = torch.long
    is_distribution: ClassVar[bool] = True
    headline: ClassVar[str] = "miou"
    higher_is_better: ClassVar[bool] = True
    units: ClassVar[Mapping[str, str]] = {"miou": "%", "pixel_accuracy": "%"}

    def label_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        return size

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target.clamp(min=0), reduction="none").unsqueeze(1)

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target, reduction="none").unsqueeze(1)

    def valid(self, target: Tensor) -> Tensor:
        return (target >= 0).unsqueeze(1)

    def to_label_space(self, prediction: Tensor) -> Tensor:
        return prediction.softmax(1)

    def encode(self, target: Tensor) -> Tensor:
        # scatter and not F.one_hot, which looks at the values: a host sync on a GPU
        index = target.clamp(min=0).unsqueeze(1)
        shape = (index.shape[0], self.channels, *index.shape[2:])
        return torch.zeros(shape, device=target.device).scatter_(1, index, 1.0)

    def decode(self, prediction: Tensor) -> Tensor:
        return prediction.argmax(1)

    def value_problems(self, label: Tensor) -> list[str]:
        found = self.range_problem(label)
        return [found] if found else []

    def range_problem(self, label: Tensor) -> str | None:
        return class_problem(label, self.channels)

    def labels_from(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randint(self.channels, (len(noise), *noise.shape[-2:]), generator=generator)

    def picture(self, label: Tensor, limits: tuple[float, float]) -> Pixels:
        picked: Pixels = palette(self.channels)[np.clip(label.numpy(), 0, self.channels - 1)]
        return picked

    @property
    def file_ending(self) -> str:
        return ".png"

    def export(self, label: Tensor) -> NDArray[Any]:
        """Classes as 8-bit indices, 16-bit where there are more than 256."""
        return label.numpy().astype(np.uint8 if self.channels <= 256 else np.uint16)

    def metrics(self) -> Metric:
        return ConfusionMetrics(self.channels)

    def details(self, metric: Metric) -> dict[str, float]:
        """Intersection over union of every class, in per cent; NaN where it occurs nowhere."""
        if not isinstance(metric, ConfusionMetrics):  # a kind of its own with another metric
            return {}
        names = self.classes or tuple(map(str, range(self.channels)))
        return {f"iou/{name}": value for name, value in zip(names, metric.iou().tolist(), strict=True)}
