"""Which pixels of a teacher's prediction are good enough for a label.

Shape letters: B samples, O channels of the task, H and W image size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtl_core import Task


def confident(task: Task, prediction: Tensor, mirrored: Tensor | None, least: float, tolerance: float | None) -> Tensor:
    """Where a prediction may become a label.

    :param prediction: (B, O, H, W) or (B, O), as the head gives it
    :param mirrored: the prediction for the mirrored image, as the head gives it; None if no tolerance is set
    :param least: for classes, the smallest probability
    :param tolerance: for other tasks, the largest loss between the prediction and the mirror image's; None: any
    :return: bool (B, 1, H, W), or (B, 1)
    """
    if task.is_distribution:
        return task.to_label_space(prediction).amax(1, keepdim=True) >= least
    if tolerance is None or mirrored is None:
        return torch.ones_like(prediction[:, :1], dtype=torch.bool)
    back = task.flip(task.to_label_space(mirrored).flip(-1))
    return task.soft_loss(prediction, back) <= tolerance


def both_ways(network: nn.Module, images: Tensor, task: Task, mirror: bool) -> tuple[Tensor, Tensor | None]:
    """Predictions for images (B, 3, H, W) and, if asked, for their mirror images; float32 or better."""
    plain = network(images)[task.name]
    mirrored = network(images.flip(-1))[task.name] if mirror and task.dense else None
    return plain.float(), None if mirrored is None else mirrored.float()
