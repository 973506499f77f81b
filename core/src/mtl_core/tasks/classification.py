"""A class per image.

Shape letters: B samples, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_core.tasks.metrics import Top1
from mtl_core.tasks.task import Task, class_problem

if TYPE_CHECKING:
    from torchmetrics import Metric


@attrs.frozen(kw_only=True)
class Classification(Task):
    """A class per image: labels long (B,), −1 where missing; cross-entropy."""

    classes: tuple[str, ...] = ()
    dense: ClassVar[bool] = False
    ignored: ClassVar[float] = -1
    also_invalid: ClassVar[float | None] = -7
    label_dtype: ClassVar[torch.dtype] = torch.long
    is_distribution: ClassVar[bool] = True
    headline: ClassVar[str] = "top1"
    higher_is_better: ClassVar[bool] = True
    units: ClassVar[Mapping[str, str]] = {"top1": "%"}

    def label_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        return ()

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target.clamp(min=0), reduction="none").unsqueeze(1)

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target, reduction="none").unsqueeze(1)

    def valid(self, target: Tensor) -> Tensor:
        return (target >= 0).unsqueeze(1)

    def to_label_space(self, prediction: Tensor) -> Tensor:
        return prediction.softmax(1)

    def encode(self, target: Tensor) -> Tensor:
        index = target.clamp(min=0).unsqueeze(1)
        return torch.zeros((len(target), self.channels), device=target.device).scatter_(1, index, 1.0)

    def decode(self, prediction: Tensor) -> Tensor:
        return prediction.argmax(1)

    def value_problems(self, label: Tensor) -> list[str]:
        found = self.range_problem(label)
        return [found] if found else []

    def range_problem(self, label: Tensor) -> str | None:
        return class_problem(label, self.channels)

    def labels_from(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randint(self.channels, (len(noise),), generator=generator)

    def metrics(self) -> Metric:
        return Top1()
