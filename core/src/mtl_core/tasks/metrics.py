"""Metrics of dense and per-image tasks, as torchmetrics: summed over a data set and over ranks.

Shape letters: B samples, C classes, O channels of a task, H and W image size, T thresholds.
Shares are percent, angles degrees, depth in the label's unit (metres). Without any valid pixel a metric is NaN;
so is every metric of a network that predicts NaN for a valid pixel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

_Valid = Callable[[Tensor], Tensor]


class Summed(Metric):
    """A metric whose states are sums, so that parts of a data set and ranks add up."""

    full_state_update = False
    nans: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_sum("nans")

    def add_sum(self, name: str, *shape: int) -> None:
        self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def note_nan(self, prediction: Tensor, valid: Tensor) -> None:
        """Count the valid entries (B, 1, …) for which the network (B, O, …) predicts NaN."""
        self.nans += (prediction.isnan().any(1, keepdim=True) & valid).sum()

    def unless_nan(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The results, all NaN where a prediction was: a network that diverged has no metrics that look real."""
        return {name: torch.where(self.nans > 0, torch.nan, value) for name, value in values.items()}


class ConfusionMetrics(Summed):
    """Mean intersection over union and pixel accuracy over a whole data set.

    Classes that occur neither in labels nor in predictions are left out of the mean.

    :param channels: C
    """

    confusion: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.add_sum("confusion", channels, channels)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Logits (B, C, H, W), labels long (B, H, W) with −1 where unlabelled."""
        c = self.channels
        self.note_nan(prediction, (target >= 0).unsqueeze(1))
        # unlabelled pixels are counted in a bin of their own, which is cut off: no data-dependent shape
        place = torch.where(target >= 0, target * c + prediction.argmax(1), torch.full_like(target, c * c))
        ones = torch.ones_like(place, dtype=self.confusion.dtype).flatten()
        counts = torch.zeros(c * c + 1, dtype=self.confusion.dtype, device=place.device)
        self.confusion += counts.scatter_add_(0, place.flatten(), ones)[:-1].view(c, c)

    def iou(self) -> Tensor:
        """Of every class in per cent, (C,); NaN where it occurs neither in labels nor in predictions."""
        # over the whole data set, not a mean over images: rare classes are in few of them
        hit = self.confusion.diagonal()
        union = self.confusion.sum(0) + self.confusion.sum(1) - hit
        return torch.where((union > 0) & (self.nans == 0), 100 * hit / union.clamp(min=1), torch.nan)

    def compute(self) -> dict[str, Tensor]:
        accuracy = 100 * self.confusion.diagonal().sum() / self.confusion.sum()
        return self.unless_nan({"miou": self.iou().nanmean(), "pixel_accuracy": accuracy})


class RegressionMetrics(Summed):
    """Mean absolute and root mean square error over all valid pixels.

    :param valid: a batch of labels → bool (B, 1, H, W)
    """

    absolute: Tensor
    squared: Tensor
    count: Tensor

    def __init__(self, valid: _Valid) -> None:
        super().__init__()
        self.valid = valid
        for name in ("absolute", "squared", "count"):
            self.add_sum(name)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Both (B, O, H, W)."""
        self.note_nan(prediction, self.valid(target))
        valid = self.valid(target).expand_as(target)
        error = torch.where(valid, prediction - target, torch.zeros_like(target)).to(self.count.dtype)
        self.absolute += error.abs().sum()
        self.squared += error.square().sum()
        self.count += valid.sum()

    def compute(self) -> dict[str, Tensor]:
        return self.unless_nan({"abs_err": self.absolute / self.count, "rmse": (self.squared / self.count).sqrt()})


class DepthMetrics(RegressionMetrics):
    """Errors of depth: absolute, root mean square, relative, of the logarithm, and the shares that are nearly right.

    The usual ones since Eigen et al., "Depth Map Prediction from a Single Image", NeurIPS 2014, Sec. 4.1: ``rel_err``
    is the mean of |ŷ − y| / y, ``log_rmse`` the root mean square of ln ŷ − ln y, ``delta1`` to ``delta3`` the shares of
    pixels with max(ŷ / y, y / ŷ) below 1.25, 1.25² and 1.25³. They count valid pixels with y > 0. A prediction of 0
    or less is in no share; its logarithm is taken of 1e-9.

    :param valid: a batch of labels → bool (B, 1, H, W)
    :param clamp: predictions are at least this much; None: they are taken as they are
    """

    LEAST = 1e-9
    relative: Tensor
    logarithmic: Tensor
    near: Tensor
    positive: Tensor

    def __init__(self, valid: _Valid, clamp: float | None = None) -> None:
        super().__init__(valid)
        self.clamp = clamp
        for name in ("relative", "logarithmic", "positive"):
            self.add_sum(name)
        self.add_sum("near", 3)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Both (B, 1, H, W)."""
        if self.clamp is not None:
            prediction = prediction.clamp(min=self.clamp)
        super().update(prediction, target)
        counted = self.valid(target) & (target > 0)
        # 1 and 1 where a pixel does not count: no error there
        y = torch.where(counted, target, torch.ones_like(target)).to(self.count.dtype)
        p = torch.where(counted, prediction, torch.ones_like(prediction)).to(self.count.dtype)
        self.relative += ((p - y).abs() / y).sum()
        positive = p.clamp(min=self.LEAST)
        self.logarithmic += (positive.log() - y.log()).square().sum()
        ratio = torch.maximum(positive / y, y / positive)
        limits = [1.25, 1.25**2, 1.25**3]
        self.near += torch.stack([((ratio < limit) & counted & (p > 0)).sum() for limit in limits])
        self.positive += counted.sum()

    def compute(self) -> dict[str, Tensor]:
        shares = {f"delta{k}": 100 * near / self.positive for k, near in enumerate(self.near, 1)}
        further = {"rel_err": self.relative / self.positive, "log_rmse": (self.logarithmic / self.positive).sqrt()}
        return super().compute() | self.unless_nan(further | shares)


class AngleError(Summed):
    """Mean, median and root mean square angle between predicted and true directions, shares below 11.25°, 22.5°, 30°.

    The median is read from a histogram of 0.01°, so that it adds up over ranks.
    """

    BINS = 18000
    total: Tensor
    squared: Tensor
    histogram: Tensor

    def __init__(self, valid: _Valid) -> None:
        super().__init__()
        self.valid = valid
        self.add_sum("total")
        self.add_sum("squared")
        self.add_sum("histogram", self.BINS)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Both (B, 3, H, W); the prediction need not be of unit length."""
        valid = self.valid(target)[:, 0]
        cosine = F.cosine_similarity(prediction, target, dim=1).clamp(-1, 1)
        degrees = torch.where(valid, torch.rad2deg(torch.acos(cosine)), torch.zeros_like(cosine))
        self.note_nan(degrees.unsqueeze(1), valid.unsqueeze(1))
        # as an index NaN would lie outside the histogram
        place = (degrees.nan_to_num(180.0) * (self.BINS / 180)).long().clamp(max=self.BINS - 1).flatten()
        self.histogram.scatter_add_(0, place, valid.flatten().to(self.histogram.dtype))
        self.total += degrees.sum()
        self.squared += degrees.square().sum()

    def compute(self) -> dict[str, Tensor]:
        count = self.histogram.sum()
        below = self.histogram.cumsum(0)
        # from the histogram: an exact median would need every pixel of the data set at once
        median = (below < count / 2).sum().to(count.dtype) * (180 / self.BINS)
        shares = {f"within_{a:g}": 100 * below[round(a / 180 * self.BINS) - 1] / count for a in (11.25, 22.5, 30)}
        median = torch.where(count > 0, median, torch.nan)
        means = {"mean_angle": self.total / count, "median_angle": median, "rmse_angle": (self.squared / count).sqrt()}
        return self.unless_nan(means | shares)


class EdgeMetrics(Summed):
    """Maximal data-set F (odsF) of edge probabilities over 99 thresholds, pixel by pixel, and the absolute error.

    Published odsF allows a distance between predicted and true boundaries; pixelwise F is lower: do not compare them.
    """

    hit: Tensor
    found: Tensor
    true: Tensor
    absolute: Tensor
    count: Tensor

    def __init__(self, valid: _Valid) -> None:
        super().__init__()
        self.valid = valid
        for name in ("hit", "found", "true"):
            self.add_sum(name, 99)
        for name in ("absolute", "count"):
            self.add_sum(name)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Logits and labels in 0..1, both (B, 1, H, W)."""
        valid = self.valid(target)
        p = prediction.sigmoid()
        self.note_nan(prediction, valid)
        known = torch.where(valid, target, torch.zeros_like(target))
        thresholds = torch.linspace(0.01, 0.99, 99, device=p.device)
        edge = (known > 0.5) & valid
        # one histogram instead of 99 masks: pixels above a threshold are a reversed cumulative sum
        place = torch.bucketize(p.nan_to_num(0.0), thresholds).flatten()
        self.found += _above(place, valid, self.found)
        self.hit += _above(place, edge, self.hit)
        self.true += edge.sum()
        self.absolute += torch.where(valid, (p - known).abs(), torch.zeros_like(p)).sum()
        self.count += valid.sum()

    def compute(self) -> dict[str, Tensor]:
        f = 2 * self.hit / (self.found + self.true).clamp(min=1)
        best = torch.where(self.count > 0, 100 * f.max(), torch.nan)
        return self.unless_nan({"ods_f": best, "abs_err": self.absolute / self.count})


def _above(place: Tensor, mask: Tensor, like: Tensor) -> Tensor:
    """How many masked pixels exceed each threshold, from the number of thresholds that each pixel exceeds."""
    counts = torch.zeros(len(like) + 1, dtype=like.dtype, device=like.device)
    counts.scatter_add_(0, place, mask.flatten().to(like.dtype))
    return counts.flip(0).cumsum(0).flip(0)[1:]


class Top1(Summed):
    """Share of images whose most likely class is the label."""

    hit: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_sum("hit")
        self.add_sum("count")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Logits (B, C), labels long (B,) with −1 where missing."""
        valid = target >= 0
        self.note_nan(prediction, valid.unsqueeze(1))
        self.hit += ((prediction.argmax(1) == target) & valid).sum()
        self.count += valid.sum()

    def compute(self) -> dict[str, Tensor]:
        return self.unless_nan({"top1": 100 * self.hit / self.count})
