"""The kinds of depth that Cityscapes is learned with.

Shape letters: B samples, H and W image size.
"""

from __future__ import annotations

from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torchmetrics import Metric

from mtl_cityscapes.depths import UNKNOWN
from mtl_cityscapes.labels import CLASSES, PARTS
from mtl_core import Depth, Segmentation, Task


class DepthErrors(Metric):
    """Mean absolute, root mean square and mean relative error over all valid pixels.

    The relative error |ŷ − y|/y is taken where y > 0.

    :param task: says which pixels of a label are valid
    """

    full_state_update = False
    absolute: Tensor
    squared: Tensor
    count: Tensor
    relative: Tensor
    positive: Tensor

    def __init__(self, task: Depth) -> None:
        super().__init__()
        self.task = task
        for name in ("absolute", "squared", "count", "relative", "positive"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Both (B, 1, H, W)."""
        valid = self.task.valid(target)
        positive = valid & (target > 0)
        error = torch.where(valid, prediction - target, torch.zeros_like(target)).to(self.count.dtype)
        self.absolute += error.abs().sum()
        self.squared += error.square().sum()
        self.count += valid.sum()
        # outside of the mask y may be 0 or −1, and 0/0 would spoil the sum
        self.relative += (error.abs() / torch.where(positive, target, torch.inf)).sum()
        self.positive += positive.sum()

    def compute(self) -> dict[str, Tensor]:
        return {
            "abs_err": self.absolute / self.count,
            "rmse": (self.squared / self.count).sqrt(),
            "rel_err": self.relative / self.positive,
        }


@attrs.frozen(kw_only=True)
class MetricDepth(Depth):
    """Depth in metres: labels float (B, 1, H, W), 0 where invalid; L1. An enlargement by s divides it by s."""

    def metrics(self) -> Metric:
        return DepthErrors(self)


@attrs.frozen(kw_only=True)
class Disparity(MetricDepth):
    """Disparity in pixels of the image: labels float (B, 1, H, W), −1 where invalid, 0 infinitely far; L1.

    An enlargement by s multiplies it by s; where ``divided``, it is divided by s.
    """

    disparity: bool = True
    divided: bool = False
    ignored: ClassVar[float] = UNKNOWN

    def valid(self, target: Tensor) -> Tensor:
        return target.isfinite() & (target >= 0)

    def zoom(self, target: Tensor, scale: float | Tensor) -> Tensor:
        return target / scale if self.divided else target * scale


@attrs.frozen(kw_only=True)
class PublishedDisparity(Disparity):
    """Raw disparity / 65535, as in MTAN's arrays: labels float (B, 1, H, W), 0 where invalid; L1."""

    ignored: ClassVar[float] = 0.0

    def valid(self, target: Tensor) -> Tensor:
        return target.isfinite() & (target > 0)


def make_task(name: str, classes: int, depth: str, zoom: str) -> Task:
    """One of the tasks by its name; the other arguments are the plugin's options."""
    if name == "segmentation":
        return Segmentation(name=name, channels=classes, classes=CLASSES[classes])
    if name == "parts":
        return Segmentation(name=name, channels=len(PARTS), classes=PARTS)
    if depth == "metres":
        return MetricDepth(name=name)
    kind = Disparity if depth == "disparity" else PublishedDisparity
    return kind(name=name, divided=zoom == "mtan")
