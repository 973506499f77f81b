"""What enters m: the label of a task where a sample has one, else its prediction.

A pair's source has no label and its target has one, so that no sample needs both maps of a task.
Shape letters: B samples, O channels of the task, H and W image size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtl_core.step import Step
from mtl_core.tasks import Task


def known_or_predicted(step: Step, task: Task, view: int) -> Tensor:
    """y^t or ŷ^t in label space, (B, O, H, W).

    Pixels of a label that are invalid take the prediction, detached.
    """
    prediction = task.to_label_space(full(step.predictions[task.name][view]))
    label = task.encode(step.targets[task.name]).to(prediction.dtype)
    target = torch.where(step.valid(task.name), label, prediction.detach())
    return torch.where(has_label(step, task), target, prediction)


def has_label(step: Step, task: Task) -> Tensor:
    """bool (B, 1, 1, 1)"""
    return step.labelled[:, step.tasks.position(task.name), None, None, None]


def full(values: Tensor) -> Tensor:
    """At least float32: a half-precision network's outputs are judged in full precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
