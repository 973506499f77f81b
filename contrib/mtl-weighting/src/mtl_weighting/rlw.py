"""RLW: new random weights in every step.

Shape letters: K tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtl_core import About, Step, hookimpl, plugin
from mtl_weighting.rules import log_per_task, softmax_over, weighted_sum


@plugin
class RLW:
    """RLW: Σ w_t L_t, the weights a softmax of normal draws.

    Lin, Ye, Zhang, Tsang, "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning", TMLR
    2022; their variant "Normal". The softmax goes over the tasks that have a label in the batch.
    """

    about = About(
        formula="Σ w_t L_t, w a softmax of standard normal draws, new in every step",
        source="Lin, Ye, Zhang, Tsang, TMLR 2022, RLW with normal draws",
        cost="nothing",
        departs="missing labels: the softmax goes over the active tasks",
    )

    @hookimpl
    def combine_losses(self, losses: Tensor, active: Tensor, step: Step) -> Tensor:
        draws = torch.randn(len(losses), generator=step.shared).to(losses.device)
        weights = softmax_over(draws, active)
        log_per_task(step, "weight", weights, active)
        return weighted_sum(losses, weights, active)
