"""Ŷ and Y: the stack of all predictions, and the stack with the labels that exist.

Shape letters: B samples, O channels of all tasks together, O_t of task t, H and W image size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtl_core import Step, Task, Tasks, at_least_float32


def stacks(step: Step, tasks: Tasks, scales: dict[str, float]) -> tuple[Tensor, Tensor]:
    """Ŷ and Y of Eq. 4, each (B, O, H, W), for view 0.

    Y has the label where there is one and the prediction elsewhere: tasks without a label, and pixels of a label that
    are invalid. Neither is detached.

    :param scales: task → what its values are divided by in the stacks
    """
    pairs = [_pair(step, task, scales[task.name]) for task in tasks]
    return torch.cat([p for p, _ in pairs], 1), torch.cat([y for _, y in pairs], 1)


def _pair(step: Step, task: Task, scale: float) -> tuple[Tensor, Tensor]:
    """One task's part of Ŷ and Y, (B, O_t, H, W)."""
    prediction = _predicted(step, task, 0, scale)
    labelled = step.labelled[:, step.tasks.position(task.name), None, None, None]
    label = task.encode(step.targets[task.name]).to(prediction.dtype) / scale
    return prediction, torch.where(labelled & step.valid(task.name), label, prediction)


def _predicted(step: Step, task: Task, view: int, scale: float) -> Tensor:
    """A view's prediction in label space, (B, O_t, H, W)."""
    return task.to_label_space(at_least_float32(step.predictions[task.name][view])) / scale


def all_predicted(step: Step, tasks: Tasks, view: int, scales: dict[str, float]) -> Tensor:
    """Ŷ of one view, (B, O, H, W)."""
    return torch.cat([_predicted(step, task, view, scales[task.name]) for task in tasks], 1)
