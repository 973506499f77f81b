"""Ŷ and Y: the stack of all predictions, and the stack with the labels that exist.

Shape letters: B samples, O channels of all tasks together, O_t of task t, H and W image size.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mtl_core import Step, Task, Tasks, at_least_float32


def stacks(
    step: Step, tasks: Tasks, scales: dict[str, float], substitutes: Mapping[str, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Ŷ and Y of Eq. 4, each (B, O, H, W), for view 0.

    Y has the label where there is one and the prediction elsewhere: tasks without a label, and pixels of a label that
    are invalid. Neither is detached.

    :param scales: task → what its values are divided by in the stacks
    :param substitutes: task → (B, O_t, H, W) as its head gives it: what stands in Y in place of the predictions
    """
    others = {} if substitutes is None else substitutes
    pairs = [_pair(step, task, scales[task.name], others.get(task.name)) for task in tasks]
    return torch.cat([p for p, _ in pairs], 1), torch.cat([y for _, y in pairs], 1)


def _pair(step: Step, task: Task, scale: float, substitute: Tensor | None) -> tuple[Tensor, Tensor]:
    """One task's part of Ŷ and Y, (B, O_t, H, W)."""
    prediction = _predicted(step, task, 0, scale)
    other = prediction if substitute is None else _entered(task, substitute, scale)
    labelled = step.labelled[:, step.tasks.position(task.name), None, None, None]
    label = task.encode(step.targets[task.name]).to(prediction.dtype) / scale
    return prediction, torch.where(labelled & step.valid(task.name), label, other)


def _predicted(step: Step, task: Task, view: int, scale: float) -> Tensor:
    """A view's prediction in label space, (B, O_t, H, W)."""
    return _entered(task, step.predictions[task.name][view], scale)


def _entered(task: Task, output: Tensor, scale: float) -> Tensor:
    """What a head gives (B, O_t, H, W), in label space and in the stack's units."""
    return task.to_label_space(at_least_float32(output)) / scale


def all_predicted(step: Step, tasks: Tasks, view: int, scales: dict[str, float]) -> Tensor:
    """Ŷ of one view, (B, O, H, W)."""
    return torch.cat([_predicted(step, task, view, scales[task.name]) for task in tasks], 1)
