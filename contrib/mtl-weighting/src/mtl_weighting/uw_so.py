"""UW-SO: the weights that uncertainty weighting would arrive at, made sharper or softer.

Shape letters: K tasks.
"""

from __future__ import annotations

from attrs import field, validators
from torch import Tensor

from mtl_core import About, Step, help, hookimpl, plugin
from mtl_weighting.rules import log_per_task, softmax_over, weighted_sum

_SMALLEST = 1e-30
"""T·L̄_t is not taken to be smaller: 1 / 0 would be infinite."""


@plugin
class UWSO:
    """UW-SO: Σ w_t L_t, the weights a softmax of the inverse losses.

    Kirchdorfer et al., "Analytical Uncertainty-Based Loss Weighting in Multi-Task Learning", GCPR 2024. Nothing is
    learned: σ_t² = L̄_t is where UW would settle. The softmax goes over the tasks that have a label in the batch.
    """

    about = About(
        formula="Σ w_t L_t, w = softmax(1/(T · ⟨L̄_t⟩))",
        source="Kirchdorfer et al., GCPR 2024",
        cost="nothing",
        departs="missing labels: the softmax goes over the active tasks",
    )

    temperature: float = field(
        default=1.0, validator=validators.gt(0), metadata=help("T; the larger, the more equal the weights; to be tuned")
    )

    @hookimpl
    def combine_losses(self, losses: Tensor, means: Tensor, active: Tensor, step: Step) -> Tensor:
        weights = inverse_weights(means.detach(), active, self.temperature)
        log_per_task(step, "weight", weights, active)
        return weighted_sum(losses, weights, active)


def inverse_weights(means: Tensor, active: Tensor, temperature: float) -> Tensor:
    """w_t = softmax over the active tasks of 1 / (T·L̄_t), (K,)."""
    return softmax_over(1 / (temperature * means).clamp(min=_SMALLEST), active)
