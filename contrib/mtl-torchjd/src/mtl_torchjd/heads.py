"""Weights of the losses in place of weights of the branches: the heads are trained with them too.

Shape letters: K tasks, P entries of the encoder's parameters together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtl_core import LookAhead, Step, shared_gramian
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
