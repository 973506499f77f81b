"""Edges and other maps in 0..1.

Shape letters: B samples, H and W image size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs
import torch
from attrs import field
from attrs.validators import ge, le
from torch import Tensor
from torch.nn import functional as F

from mtl_core.tasks.metrics import EdgeMetrics
from mtl_core.tasks.pictures import Pixels, grey
from mtl_core.tasks.precision import constant, is_finite
from mtl_core.tasks.task import Task, setting

if TYPE_CHECKING:
    from torchmetrics import Metric


@attrs.frozen(kw_only=True)
class BinaryEdges(Task):
    """Edges or other maps in 0..1: labels float (B, 1, H, W), NaN where invalid; weighted binary cross-entropy.

    :param positive_weight: share of the loss that edge pixels carry, 0.95 as in the PASCAL-Context line of work
    """

    channels: int = 1
    positive_weight: float = field(
        default=0.95, validator=[ge(0.0), le(1.0)], metadata=setting("share of the loss that edge pixels carry")
    )
    ignored: ClassVar[float] = float("nan")
    also_invalid: ClassVar[float | None] = float("inf")
    headline: ClassVar[str] = "ods_f"
    higher_is_better: ClassVar[bool] = True
    errors: ClassVar[frozenset[str]] = frozenset({"abs_err"})
    units: ClassVar[Mapping[str, str]] = {"ods_f": "%"}

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.soft_loss(prediction, self.encode(target))

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        weight = self.positive_weight * target + (1 - self.positive_weight) * (1 - target)
        return weight * F.binary_cross_entropy_with_logits(prediction, target, reduction="none")

    def valid(self, target: Tensor) -> Tensor:
        return is_finite(target)

    def to_label_space(self, prediction: Tensor) -> Tensor:
        return prediction.sigmoid()

    def encode(self, target: Tensor) -> Tensor:
        return torch.where(self.valid(target), target, constant(0.0, target.device))

    def value_problems(self, label: Tensor) -> list[str]:
        known = label[label.isfinite()]
        if ((known >= 0) & (known <= 1)).all():
            return []
        return [f"found values {known.min():g} to {known.max():g}, expected 0 to 1; divide by the highest value"]

    def labels_from(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        return (noise > 0.5).float()

    def picture(self, label: Tensor, limits: tuple[float, float]) -> Pixels:
        # edges are rare: limits taken from the pixels would be empty
        return grey(label.numpy().mean(0), 0, 1)

    def metrics(self) -> Metric:
        return EdgeMetrics(self.valid)
