"""From losses per sample and task to one loss per task, over the global batch.

Shape letters: B samples of this rank, K tasks, W ranks. The gradients that DDP averages over the ranks are those of the
global batch's loss: every local value is the rank's share times W.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from mtl_core.tasks.precision import at_least_float32, constant
from mtl_core.tasks.tasks import Tasks

Normalize = Literal["sample", "task", "none"]


def world(group: dist.ProcessGroup | None) -> int:
    return 1 if group is None else dist.get_world_size(group)


def summed(value: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Sum over the ranks, without gradient."""
    if group is None:
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total, group=group)
    return total


def _with_global_value(value: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The mean over the ranks, with this rank's gradient."""
    if group is None:
        return value
    # the term in brackets has no gradient: it replaces the value alone
    return value + (summed(value, group) / world(group) - value.detach())


def sample_losses(tasks: Tasks, predictions: dict[str, Tensor], targets: dict[str, Tensor], labelled: Tensor) -> Tensor:
    """Losses (B, K), 0 where a sample carries no label."""
    columns = [task.scaled_loss(predictions[task.name], targets[task.name]) for task in tasks]
    losses = torch.stack(columns, 1)
    losses = at_least_float32(losses)
    # where, not a product: the loss at a blank label may be NaN
    return torch.where(labelled, losses, constant(0.0, losses.device))


def task_losses(
    losses: Tensor,
    labelled: Tensor,
    normalize: Normalize,
    group: dist.ProcessGroup | None = None,
    expected: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """L_t, L̄_t and which tasks are active, of the global batch with local gradients.

    :param losses: (B, K), 0 where a sample carries no label: those of :func:`sample_losses`
    :param labelled: bool (B, K)
    :param normalize: ``"sample"``: Σ_b m_bt/|T_b| L_bt / B (Nishi et al., CVPR 2024, Eq. 1); ``"task"``: the mean over
        the samples that carry t; ``"none"``: Σ_b m_bt L_bt / B, as the released codes
    :param expected: where gradients accumulate over several micro-batches, the mean number of samples that carry t in
        one of them, (K,). With ``"task"`` L_t is divided by it in place of the micro-batch's own number, so that the
        mean over the micro-batches is that of one large batch
    :return: L_t (K,), L̄_t (K,) the mean over the samples that carry t, active bool (K,)
    """
    m = labelled.to(losses.dtype)
    counts = summed(m.sum(0), group)
    # the values are 0 there already; this makes ∂L_t/∂losses 0 too, by which rules weight losses of their own
    losses = losses * m
    sums = losses.sum(0)
    if group is not None:
        # times W, because DDP divides the summed gradients by it
        sums = sums * world(group)
    means = sums / counts.clamp(min=1)
    # functions, so that only the one that is asked for is computed
    shares: dict[str, Callable[[], Tensor]] = {
        "sample": lambda: (losses / m.sum(1, keepdim=True).clamp(min=1)).mean(0),
        "task": lambda: means if expected is None else sums / torch.where(expected > 0, expected, 1),
        "none": lambda: losses.mean(0),
    }
    if group is None:
        return shares[normalize](), means, counts > 0
    # stacked: one message
    both = _with_global_value(torch.stack([shares[normalize](), means]), group)
    return both[0], both[1], counts > 0


def global_term(term: Tensor | tuple[Tensor, Tensor], group: dist.ProcessGroup | None = None) -> Tensor:
    """A regularizer's scalar, or the global mean of its (sum, count)."""
    if isinstance(term, Tensor):
        return term
    total, count = term
    return total * world(group) / summed(count.to(total.dtype), group).clamp(min=1)
