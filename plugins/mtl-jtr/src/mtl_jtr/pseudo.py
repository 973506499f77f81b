"""What g makes of a sample's labels, as labels of the tasks that have none. Not in the paper.

Shape letters: B samples, K stacked tasks, O channels of all tasks together, H and W image size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtl_core import Step, Task, at_least_float32
from mtl_jtr.joint_space import JointSpace
from mtl_jtr.masks import only_shown


def pseudo_loss(space: JointSpace, step: Step, known: Tensor) -> Tensor:
    """Σ over the tasks without a label of the task's own loss of ŷ^t against ⟨g(Y)^t⟩: the mean over samples.

    The loss of a map is its mean over pixels. A sample without any label of the stacked tasks has no pseudo-labels.

    :param known: Y, (B, O, H, W)
    """
    labelled = torch.stack([step.labelled[:, step.tasks.position(t)] for t in space.tasks.names], 1)
    counted = ~labelled & labelled.any(1, keepdim=True)
    made = _pseudo_labels(space, known.detach(), labelled)
    losses = torch.stack([_loss(task, step.predictions[task.name][0], made[task.name]) for task in space.tasks], 1)
    return torch.where(counted, losses, torch.zeros_like(losses)).sum(1).mean()


@torch.no_grad()
def _pseudo_labels(space: JointSpace, known: Tensor, labelled: Tensor) -> dict[str, Tensor]:
    """Task → (B, O_t, H, W) in label space: what g makes of Y, or of its labels alone."""
    stack = only_shown(known, labelled, space.tasks) if space.options.pseudo_from == "labels" else known
    decoded = space.by_task(space.g.decode(space.encode(stack)))
    return {task.name: _in_label_space(task, decoded[task.name]) for task in space.tasks}


def _in_label_space(task: Task, output: Tensor) -> Tensor:
    # g gives label space; only where a head does too does the task's own map from outputs apply
    return task.to_label_space(output) if task.channels == task.label_channels else output


def _loss(task: Task, prediction: Tensor, target: Tensor) -> Tensor:
    """(B,)."""
    return task.soft_loss(at_least_float32(prediction), target).flatten(1).mean(1)
