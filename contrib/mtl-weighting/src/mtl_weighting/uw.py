"""UW: every task's loss weighted by its learned uncertainty.

Shape letters: K tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from attrs import field, validators
from torch import Tensor, nn

from mtl_core import About, Step, Tasks, help, hookimpl, plugin
from mtl_weighting.rules import log_per_task, present, shares, uncertainty_terms


@plugin
class UW(nn.Module):
    """UW: Σ L_t/(2σ_t²) + log σ_t, with one learned uncertainty per task.

    Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics",
    CVPR 2018. A task without a label in the batch gives neither its decoder nor its σ a gradient.
    """

    about = About(
        formula="Σ_active s_t (L̄_t/(2σ_t²) + log σ_t), s_t = L_t/L̄_t",
        source="Kendall, Gal, Cipolla, CVPR 2018, Eq. 10",
        cost="one scalar per task",
        departs=(
            "missing labels: an absent task adds nothing, and σ learns from the mean over the samples that carry "
            "the task"
        ),
    )

    initial_sigma: float = field(
        default=1.0, validator=validators.gt(0), metadata=help("σ that every task starts with; 1 makes all weights 1/2")
    )
    sigma_learning_rate: float | None = field(
        default=None,
        validator=validators.optional(validators.gt(0)),
        metadata=help('learning rate of log σ; "none" takes the experiment\'s'),
    )

    @hookimpl
    def setup(self, name: str, tasks: Tasks, places: Mapping[str, str]) -> None:
        self._make_sigma(name, places, len(tasks))

    def _make_sigma(self, name: str, places: Mapping[str, str], count: int) -> None:
        start = torch.full((count,), math.log(self.initial_sigma))
        # a parameter without a gradient would make DDP wait, where another plugin combines the losses
        combines = places.get("combine_losses", name) == name
        self.log_sigma = nn.Parameter(start) if combines else None

    @hookimpl
    def parameter_groups(self, learning_rate: float) -> Sequence[Mapping[str, Any]] | None:
        """σ's own: weight decay would pull every σ to 1."""
        if self.log_sigma is None:
            return None
        rate = learning_rate if self.sigma_learning_rate is None else self.sigma_learning_rate
        return [{"params": [self.log_sigma], "lr": rate, "weight_decay": 0.0}]

    @hookimpl
    def combine_losses(self, losses: Tensor, means: Tensor, active: Tensor, step: Step) -> Tensor:
        assert self.log_sigma is not None
        log_per_task(step, "sigma", self.log_sigma.exp(), active)
        log_per_task(step, "weight", (-2 * self.log_sigma).exp() / 2, active)
        return uncertainty_terms(present(losses, active), shares(losses, means, active), self.log_sigma).sum()
