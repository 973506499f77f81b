"""Second objectives of a task, beside its loss: losses per sample, for rules that weigh objectives.

Shape letters: B samples, O channels of the task, H and W image size.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from mtl_core import BinaryEdges, Regression, Segmentation, Task, masked_mean


def _dice(task: Task, prediction: Tensor, target: Tensor) -> Tensor:
    """1 − 2 Σ p y / (Σ p + Σ y) over each sample's valid pixels, mean over the classes that its label shows.

    Milletari et al., "V-Net", 3DV 2016, without the squares.

    :param prediction: (B, O, H, W), as the head gives it
    :param target: a batch of labels
    :return: (B,); 0 for a sample without any class
    """
    valid = task.valid(target)
    zero = torch.zeros((), device=prediction.device)
    p = torch.where(valid, task.to_label_space(prediction), zero).flatten(2)
    y = torch.where(valid, task.encode(target), zero).flatten(2)
    shown = y.sum(2) > 0
    size = torch.where(shown, p.sum(2) + y.sum(2), 1.0)
    return masked_mean(1 - 2 * (p * y).sum(2) / size, shown)


def _gradient(task: Task, prediction: Tensor, target: Tensor) -> Tensor:
    """Mean |∂(ŷ − y)| between neighbouring pixels that are both valid, rows and columns; depth's edges and slopes.

    :param prediction: (B, O, H, W)
    :param target: a batch of labels
    :return: (B,)
    """
    error = prediction - task.encode(target)
    valid = task.valid(target)
    pairs = []
    for dimension in (2, 3):
        neighbours = error.shape[dimension] - 1
        both = valid.narrow(dimension, 0, neighbours) & valid.narrow(dimension, 1, neighbours)
        pairs.append(masked_mean(error.diff(dim=dimension).abs().mean(1, keepdim=True), both))
    return torch.stack(pairs).mean(0)


@attrs.frozen
class _Objective:
    """A loss per sample, and the kinds of tasks that can have it."""

    kinds: tuple[type[Task], ...]
    loss: Callable[[Task, Tensor, Tensor], Tensor]


OBJECTIVES = {"dice": _Objective((Segmentation, BinaryEdges), _dice), "gradient": _Objective((Regression,), _gradient)}
