"""What the loss rules share.

L_t depends on a task's share of the labels, L̄_t does not: rules that adapt to a loss's size use L̄_t, and of active
tasks only. Values of absent tasks are replaced before anything is computed: 0 · NaN is NaN, in gradients too.
Shape letters: K tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtl_core import Step


def present(values: Tensor, active: Tensor) -> Tensor:
    """Values (K,) of the active tasks, 0 for the others, NaN or not."""
    return torch.where(active, values, torch.zeros_like(values))


def weighted_sum(losses: Tensor, weights: Tensor, active: Tensor) -> Tensor:
    """Σ_active w_t L_t; all (K,)."""
    return (present(weights, active) * present(losses, active)).sum()


def usable(means: Tensor, active: Tensor) -> Tensor:
    """Which tasks' L̄_t may enter a running mean: an infinite value would never leave it."""
    return active & means.detach().isfinite()


def shares(losses: Tensor, means: Tensor, active: Tensor) -> Tensor:
    """s_t = L_t / L̄_t (K,), the share of the batch that carries t, as a constant; 0 where L̄_t = 0 or t is absent."""
    losses = present(losses.detach(), active)
    means = present(means.detach(), active)
    return torch.where(means == 0, torch.zeros_like(means), losses / means)


def uncertainty_terms(losses: Tensor, share: Tensor, log_sigma: Tensor) -> Tensor:
    """s_t (L̄_t / (2σ_t²) + log σ_t), each (K,), with s_t L̄_t = L_t; Kendall et al., CVPR 2018.

    The gradient is that of L_t / (2σ_t²) for predictions, and σ_t settles at σ_t² = L̄_t, however few labels there are.

    :param losses: L_t (K,), 0 for an absent task
    :param share: s_t (K,), 0 for an absent task, whose σ then gets no gradient
    :param log_sigma: (K,)
    """
    return losses * (-2 * log_sigma).exp() / 2 + share * log_sigma


def softmax_over(values: Tensor, active: Tensor) -> Tensor:
    """Softmax over the active tasks, (K,): they sum to 1, the others are 0."""
    return present(torch.where(active, values, torch.full_like(values, -torch.inf)).softmax(0), active)


def log_per_task(step: Step, name: str, values: Tensor, active: Tensor) -> None:
    """Log ``name/<task>`` (K,); steps without the task's label stay out of the epoch's mean."""
    shown = torch.where(active, values.detach(), torch.full_like(values, torch.nan))
    for task, value in zip(step.tasks.names, shown, strict=True):
        step.log(f"{name}/{task}", value)
