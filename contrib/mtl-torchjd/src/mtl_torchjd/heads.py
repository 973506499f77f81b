"""Weights of the losses in place of weights of the branches: the heads are trained with them too.

Shape letters: K tasks, P entries of the encoder's parameters together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mtl_core import LookAhead, Step
from mtl_torchjd.weightings import GramianWeights


class LossWeights(nn.Module):
    """Σ α_t L_t with a weighting's α, found from the gradients of the encoder's parameters before the step.

    At the seam α is known only when the heads' backward passes are over. The published codes of MGDA, Nash-MTL and
    FairGrad take the K gradients first and then train everything with the weighted sum of the losses.
    """

    gramian: Tensor

    def __init__(self, weighting: GramianWeights) -> None:
        super().__init__()
        self.weighting = weighting
        tasks = weighting.recipe.tasks
        self.register_buffer("gramian", torch.zeros(tasks, tasks), persistent=False)

    def before_step(self, look_ahead: LookAhead) -> None:
        self.gramian.copy_(shared_gramian(look_ahead))

    def combine(self, losses: Tensor, means: Tensor, active: Tensor, step: Step) -> Tensor:
        weights, _ = self.weighting.solve(self.gramian, step)
        if not self.gramian.any():  # no task reaches the encoder (it may be frozen): only the heads are trained
            weights = torch.ones_like(weights)
        for task, weight, labelled in zip(step.tasks.names, weights, active, strict=True):
            step.log(f"weight/{task}", torch.where(labelled, weight, torch.nan))
        # not multiplied with 0: what is NaN in an absent task would stay NaN
        return torch.where(active, weights.to(losses) * losses, torch.zeros_like(losses)).sum()


def shared_gramian(look_ahead: LookAhead) -> Tensor:
    """⟨∂L_i/∂θ, ∂L_j/∂θ⟩ on the step's own batch, θ the encoder's parameters: (K, K), the same on every rank.

    One forward pass and K backward passes of the whole network.
    """
    theta = look_ahead.parameters(heads=False)
    losses = look_ahead.losses(look_ahead.train_batch, theta)
    parameters = list(theta.values())
    if not parameters:
        return torch.zeros(len(losses), len(losses), device=losses.device)
    rows = torch.stack([_gradient(loss, parameters) for loss in losses])
    if dist.is_initialized():
        # averaged before the products are taken: a product of averages is not an average of products
        dist.all_reduce(rows)
        rows = rows / dist.get_world_size()
    return rows @ rows.mT


def _gradient(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """∂loss/∂θ in one row, (P,)."""
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])
