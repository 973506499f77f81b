"""A network per ordered pair of tasks, and what enters it.

Shape letters: B samples, K tasks, O_t channels of task t, H and W image size.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mtl_core import Step, Task, Tasks, at_least_float32
from mtl_nn import Networks


class PairMaps(nn.Module):
    """m^{s→t} for every ordered pair of K tasks: K·(K − 1) networks (B, O_s, H, W) → (B, O_t, H, W)."""

    def __init__(self, tasks: Tasks, networks: Networks, width: int | None) -> None:
        super().__init__()
        self.maps = nn.ModuleDict()
        for s, t in pairs(tasks):
            self.maps[_key(s, t)] = networks.mapping(s.label_channels, t.channels, width=width)
        self.to(memory_format=torch.channels_last)

    def __getitem__(self, pair: tuple[Task, Task]) -> nn.Module:
        return self.maps[_key(*pair)]


def pairs(tasks: Tasks) -> Iterator[tuple[Task, Task]]:
    """Every ordered pair of two tasks."""
    for source in tasks:
        for target in tasks:
            if source.name != target.name:
                yield source, target


def _key(source: Task, target: Task) -> str:
    return f"{source.name}→{target.name}"


def predicted(step: Step, task: Task) -> Tensor:
    """ŷ^t in label space, (B, O_t, H, W), at least float32."""
    prediction = step.predictions[task.name][0]
    return task.to_label_space(at_least_float32(prediction))


def known(step: Step, task: Task) -> Tensor:
    """y^t in label space, (B, O_t, H, W); ⟨ŷ^t⟩ where a sample has no label, and at invalid pixels of a label."""
    guess = predicted(step, task).detach()
    label = task.encode(step.targets[task.name]).to(guess.dtype)
    return torch.where(has_label(step, task)[:, None, None, None] & step.valid(task.name), label, guess)


def has_label(step: Step, task: Task) -> Tensor:
    """bool (B,)"""
    return step.labelled[:, step.tasks.position(task.name)]


def attached(values: Tensor, samples: Tensor) -> Tensor:
    """Values (B, O, H, W), detached outside of some samples: the others do not count, but a map's batch norm sees them.

    :param samples: bool (B,)
    """
    return torch.where(samples[:, None, None, None], values, values.detach())


def entered(values: Tensor) -> Tensor:
    """In the maps' memory format."""
    return values.contiguous(memory_format=torch.channels_last)
