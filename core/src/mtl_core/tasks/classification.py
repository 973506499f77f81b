"""A class per image.

Shape letters: B samples, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs
import torch
from torch import Tensor

from mtl_core.tasks.classes import ClassTask
from mtl_core.tasks.metrics import Top1

if TYPE_CHECKING:
    from torchmetrics import Metric


@attrs.frozen(kw_only=True)
class Classification(ClassTask):
    """A class per image: labels long (B,), −1 where missing; cross-entropy."""

    dense: ClassVar[bool] = False
    headline: ClassVar[str] = "top1"
    units: ClassVar[Mapping[str, str]] = {"top1": "%"}

    def label_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        return ()

    def labels_from(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randint(self.channels, (len(noise),), generator=generator)

    def metrics(self) -> Metric:
        return Top1()
