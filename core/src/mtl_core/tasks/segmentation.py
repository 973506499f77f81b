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

from mtl_core.tasks.classes import ClassTask
from mtl_core.tasks.metrics import ConfusionMetrics
from mtl_core.tasks.pictures import Pixels, palette

if TYPE_CHECKING:
    from torchmetrics import Metric


@attrs.frozen(kw_only=True)
class Segmentation(ClassTask):
    """Semantic segmentation: labels long (B, H, W), −1 where unlabelled; cross-entropy."""

    headline: ClassVar[str] = "miou"
    units: ClassVar[Mapping[str, str]] = {"miou": "%", "pixel_accuracy": "%"}

    def label_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        return size

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
