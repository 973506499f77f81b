"""Maps of tasks that g is not shown while it learns to give them back. Not in the paper.

Shape letters: B samples, K stacked tasks, O channels of all tasks together, H and W image size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtl_core import Tasks


def shown_maps(samples: int, tasks: int, masked: float, generator: torch.Generator) -> Tensor:
    """Which maps g is shown, bool (B, K): each is left out with probability ``masked``, but never all of a sample.

    Where the draw would leave none, the map of the largest number stays.
    """
    drawn = torch.rand(samples, tasks, generator=generator)
    return (drawn >= masked) | (drawn == drawn.amax(1, keepdim=True))


def only_shown(stack: Tensor, shown: Tensor, tasks: Tasks) -> Tensor:
    """The stack (B, O, H, W), 0 in every channel of a task that is not ``shown``, bool (B, K)."""
    by_task = shown.to(stack.device, non_blocking=True).unbind(1)
    channels = [column[:, None].expand(-1, task.label_channels) for column, task in zip(by_task, tasks, strict=True)]
    return torch.where(torch.cat(channels, 1)[:, :, None, None], stack, torch.zeros_like(stack))
