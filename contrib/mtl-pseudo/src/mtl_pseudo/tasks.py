"""Tasks whose labels are distributions over classes.

Shape letters: B samples, C classes, k classes that are kept, H and W image size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from mtl_core import Task


class _Agreement(Metric):
    """Share of labels whose most likely class is the prediction's.

    :param best: a batch of labels → the most likely class, −1 where there is none
    """

    full_state_update = False
    hit: Tensor
    count: Tensor

    def __init__(self, best: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.best = best
        for name in ("hit", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Logits (B, C, …) and labels."""
        best = self.best(target)
        self.hit += ((prediction.argmax(1) == best) & (best >= 0)).sum()
        self.count += (best >= 0).sum()

    def compute(self) -> dict[str, Tensor]:
        return {"top1": 100 * self.hit / self.count}


@attrs.frozen(kw_only=True)
class SoftClassification(Task):
    """A distribution over classes for an image: labels float (B, C), NaN where missing; cross-entropy."""

    classes: tuple[str, ...] = ()
    dense: ClassVar[bool] = False
    ignored: ClassVar[float] = float("nan")
    headline: ClassVar[str] = "top1"
    higher_is_better: ClassVar[bool] = True
    units: ClassVar[Mapping[str, str]] = {"top1": "%"}

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.soft_loss(prediction, self.encode(target))

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target, reduction="none").unsqueeze(1)

    def valid(self, target: Tensor) -> Tensor:
        return target.isfinite().all(1, keepdim=True)

    def to_label_space(self, prediction: Tensor) -> Tensor:
        return prediction.softmax(1)

    def encode(self, target: Tensor) -> Tensor:
        even = torch.full((), 1 / self.channels, dtype=target.dtype, device=target.device)
        return torch.where(self.valid(target), target, even)

    def metrics(self) -> Metric:
        return _Agreement(self._most_likely)

    def _most_likely(self, target: Tensor) -> Tensor:
        """(B,), −1 where missing."""
        found = self.encode(target).argmax(1)
        return torch.where(self.valid(target)[:, 0], found, torch.full_like(found, -1))


@attrs.frozen(kw_only=True)
class TokenLabels(Task):
    """The likely classes at every place of an image: labels float (B, 2k, H, W), −1 where invalid; cross-entropy.

    The first k channels of a label are classes, the others their probabilities, which add up to 1. Jiang et al., "All
    Tokens Matter", NeurIPS 2021: there a token of a transformer has such a label, here a pixel. Labels are
    coarse, so that the loss looks at one pixel in ``stride`` × ``stride``.

    :param top: k
    :param stride: pixels from one to the next at which the loss looks
    """

    top: int = 5
    stride: int = 8
    classes: tuple[str, ...] = ()
    ignored: ClassVar[float] = -1.0
    headline: ClassVar[str] = "top1"
    higher_is_better: ClassVar[bool] = True
    units: ClassVar[Mapping[str, str]] = {"top1": "%"}

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return super().loss(self._sparse(prediction), self._sparse(target))

    def label_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        return (2 * self.top, *size)

    def _sparse(self, maps: Tensor) -> Tensor:
        """One pixel in stride × stride of (B, …, H, W), in the middle of its square."""
        step = min(self.stride, *maps.shape[-2:])
        return maps[..., step // 2 :: step, step // 2 :: step]

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        classes, shares = self.parts(target)
        return -(shares * prediction.log_softmax(1).gather(1, classes)).sum(1, keepdim=True)

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target, reduction="none").unsqueeze(1)

    def parts(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Classes, long, and probabilities, each (B, k, H, W); class 0 and 1/k where invalid."""
        valid = self.valid(target)
        classes = target[:, : self.top].clamp(min=0).long()
        return classes, torch.where(valid, target[:, self.top :], torch.full_like(target[:, : self.top], 1 / self.top))

    def valid(self, target: Tensor) -> Tensor:
        return target[:, :1] >= 0

    def to_label_space(self, prediction: Tensor) -> Tensor:
        return prediction.softmax(1)

    def encode(self, target: Tensor) -> Tensor:
        classes, shares = self.parts(target)
        empty = torch.zeros((len(target), self.channels, *target.shape[2:]), dtype=target.dtype, device=target.device)
        return empty.scatter_add(1, classes, shares)

    def decode(self, prediction: Tensor) -> Tensor:
        shares, classes = prediction.softmax(1).topk(self.top, 1)
        return torch.cat((classes.to(shares), shares / shares.sum(1, keepdim=True)), 1)

    def metrics(self) -> Metric:
        return _Agreement(_most_likely_token)


def _most_likely_token(target: Tensor) -> Tensor:
    """The first class of every pixel (B, H, W), −1 where invalid."""
    return target[:, 0].long()
