"""A plugin's own kinds of tasks, which core and the methods have never heard of, with data to learn them from.

Shape letters: B samples, P points, N bins of depth, H and W image size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from mtl_core import MultiTaskDataset, Sample, Task, Tasks, hookimpl, plugin
from mtl_core.testing import Shapes


class Means(Metric):
    """Means by name over all calls of ``add``."""

    full_state_update = False
    names: tuple[str, ...] = ()
    sums: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(len(self.names)), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(()), dist_reduce_fx="sum")

    def add(self, valid: Tensor, *values: Tensor) -> None:
        self.sums += torch.stack([torch.where(valid, value, 0.0).sum() for value in values])
        self.count += valid.sum()

    def compute(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.sums / self.count, strict=True))


class PointDistance(Means):
    """Distance in pixels from the predicted peak to the true one, and the share within three pixels."""

    names = ("distance", "pck")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Both (B, P, H, W)."""
        valid = target.isfinite().flatten(2).all(-1)
        y, x = peaks(prediction)
        v, u = peaks(target.nan_to_num(0))
        distance = ((x - u) ** 2 + (y - v) ** 2).sqrt()
        self.add(valid, distance, 100.0 * (distance <= 3))


def peaks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """(y, x) of the largest value, each (B, P)."""
    place = maps.flatten(2).argmax(-1)
    return (place // maps.shape[-1]).float(), (place % maps.shape[-1]).float()


@attrs.frozen(kw_only=True)
class Keypoints(Task):
    """A heatmap per point: labels float (B, P, H, W) in 0..1, NaN where invalid; square error."""

    interpolation: ClassVar[Literal["nearest", "bilinear"]] = "bilinear"
    ignored: ClassVar[float] = float("nan")
    also_invalid: ClassVar[float | None] = float("inf")
    headline: ClassVar[str] = "distance"
    units: ClassVar[Mapping[str, str]] = {"distance": "px", "pck": "%"}

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.soft_loss(prediction, self.encode(target))

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction.sigmoid() - target).square().mean(1, keepdim=True)

    def valid(self, target: Tensor) -> Tensor:
        return target.isfinite().all(1, keepdim=True)

    def encode(self, target: Tensor) -> Tensor:
        return torch.where(self.valid(target), target, 0.0)

    def to_label_space(self, prediction: Tensor) -> Tensor:
        return prediction.sigmoid()

    def labels_from(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        return noise.sigmoid()

    def metrics(self) -> Metric:
        return PointDistance()


class Bins(Means):
    """Mean absolute error in metres, and the share of pixels whose error is below half a bin."""

    names = ("off", "hit")

    def __init__(self, task: BinnedDepth) -> None:
        super().__init__()
        self.task = task

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Logits (B, N, H, W), metres (B, 1, H, W)."""
        error = (self.task.to_label_space(prediction) - target).abs()
        width = (self.task.far - self.task.near) / (self.task.channels - 1)
        self.add(self.task.valid(target), error, 100.0 * (error < width / 2))


@attrs.frozen(kw_only=True)
class BinnedDepth(Task):
    """Depth as a choice among bins: the head gives N logits, labels are metres (B, 1, H, W), 0 where missing."""

    channels: int = 6
    near: float = 0.5
    far: float = 2.5
    also_invalid: ClassVar[float | None] = -1.0
    headline: ClassVar[str] = "off"
    units: ClassVar[Mapping[str, str]] = {"off": "m", "hit": "%"}

    @property
    def label_channels(self) -> int:
        return 1

    def centres(self, like: Tensor) -> Tensor:
        return torch.linspace(self.near, self.far, self.channels, device=like.device).view(1, -1, 1, 1)

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.soft_loss(prediction, target)

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        nearest = (self.encode(target) - self.centres(target)).abs().argmin(1)
        return F.cross_entropy(prediction, nearest, reduction="none").unsqueeze(1)

    def label_loss(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target).abs()

    def valid(self, target: Tensor) -> Tensor:
        return target.isfinite() & (target > 0)

    def encode(self, target: Tensor) -> Tensor:
        return torch.where(self.valid(target), target, 1.0)

    def to_label_space(self, prediction: Tensor) -> Tensor:
        return (prediction.softmax(1) * self.centres(prediction)).sum(1, keepdim=True)

    def decode(self, prediction: Tensor) -> Tensor:
        return prediction if prediction.shape[1] == 1 else self.to_label_space(prediction)

    def labels_from(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        return noise.abs() + 0.5

    def zoom(self, target: Tensor, scale: float | Tensor) -> Tensor:
        return target / scale

    def metrics(self) -> Metric:
        return Bins(self)


TASKS = Tasks([Keypoints(name="points", channels=2), BinnedDepth(name="depth")])


class OwnShapes(Shapes):
    """Toy images; the points are where red and green are brightest, far is where blue is."""

    def __init__(self, samples: int, split: str) -> None:
        super().__init__(samples, (32, 32), split)
        self.tasks = TASKS
        self.names: Sequence[str] | None = [f"{split}{i}" for i in range(samples)]

    def __getitem__(self, index: int) -> Sample:
        image = super().__getitem__(index).image
        peaks = (image[:2] / image[:2].amax((1, 2), keepdim=True)) ** 8
        return Sample(image, {"points": peaks, "depth": 0.5 + 2 * image[2:3]})


@plugin
class OwnData:
    """Random images with points and depth that follow from them."""

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        return OwnShapes(8, split)
