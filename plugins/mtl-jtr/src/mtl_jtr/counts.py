"""The released code's reconstruction loss: sums over pixels, divided by the number of non-zero target elements.

Shape letters: B samples, O channels of all tasks together, O_t of task t, H and W image size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_core import Depth, Normals, Segmentation, Task, Tasks, at_least_float32
from mtl_jtr.entries import cdf

_SQUASHED = 1e-5
"""How far the reconstructed depth's sigmoid is kept from 0 and 1, as a share."""


def counted_losses(decoded: Tensor, tasks: Tasks, targets: list[Tensor], counted: Tensor) -> dict[str, Tensor]:
    """Each task's loss of g's output, (B, O, H, W), the mean over samples.

    :param targets: (B, O_t, H, W) of each task: classes one-hot, metres, directions
    :param counted: bool (B, 1, H, W), pixels that count
    """
    parts = torch.split(at_least_float32(decoded), [task.label_channels for task in tasks], 1)
    losses = {}
    for task, output, target in zip(tasks, parts, targets, strict=True):
        losses[task.name] = _per_sample(task, output, target.detach(), counted).mean()
    return losses


def _per_sample(task: Task, output: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """(B,): binary cross-entropy, L1 behind the CDF, negative cosine; other tasks have their own loss."""
    elements = (target != 0).flatten(1).sum(1).clamp(min=1)
    if isinstance(task, Segmentation):
        return _summed(F.binary_cross_entropy_with_logits(output, target, reduction="none"), counted) / elements
    if isinstance(task, Depth):
        share = (output.sigmoid() - 0.5) * (1 - _SQUASHED) + 0.5
        return _summed((share - cdf(target)).abs(), counted) / elements
    if isinstance(task, Normals):
        return 1 - _summed(F.normalize(output, dim=1) * target, counted) / elements
    return _summed(task.label_loss(output, target), counted) / counted.flatten(1).sum(1).clamp(min=1)


def _summed(values: Tensor, counted: Tensor) -> Tensor:
    return torch.where(counted, values, torch.zeros_like(values)).flatten(1).sum(1)
