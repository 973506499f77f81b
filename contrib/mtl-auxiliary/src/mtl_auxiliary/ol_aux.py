"""OL-AUX: weights of auxiliary gradients that grow where these have helped the primary task over some steps.

Shape letters: K tasks.
"""

from __future__ import annotations

from typing import Literal

import torch
from attrs import field, validators
from torch import Tensor, nn

from mtl_auxiliary.primary import against_primary, primary_mask
from mtl_core import About, EncoderGradients, LookAhead, Shaped, Step, Tasks, help, hookimpl, plugin


@plugin
class OLAUX(nn.Module):
    """OL-AUX: every few steps an auxiliary task's weight moves by how well its gradient agreed with the primary one.

    Lin et al., "Adaptive Auxiliary Task Weighting for Reinforcement Learning", NeurIPS 2019, Algorithm 1. Beyond the
    paper: several primary tasks, steps that not every task reaches, weights that are never negative, and a measure that
    does not depend on the gradients' size.
    """

    about = About(
        formula="every N steps w_t ← max(0, w_t + β · mean_j cos(b_t, b_pri))",
        source=(
            "Lin, Baweja, Kantor, Held, Adaptive Auxiliary Task Weighting for Reinforcement Learning, NeurIPS 2019"
        ),
        cost="inner products at the features",
        departs=(
            'the published product η⟨b_t, b_pri⟩ is measure = "product"; weights are kept at 0 or more; missing labels'
        ),
    )

    primary: str | tuple[str, ...] = field(
        validator=validators.min_len(1), metadata=help("the task, or tasks, that the encoder is trained for")
    )
    measure: Literal["cosine", "product"] = field(
        default="cosine",
        validator=validators.in_(("cosine", "product")),
        metadata=help("agreement: the cosine, or as published the learning rate times the inner product"),
    )
    beta: float = field(
        default=0.01, validator=validators.gt(0), metadata=help("β: a weight moves by β times the mean agreement")
    )
    steps: int = field(
        default=5, validator=validators.ge(1), metadata=help("N: steps that are averaged before a weight moves")
    )
    initial_weight: float = field(
        default=0.1, validator=validators.ge(0), metadata=help("weight that every auxiliary task starts with")
    )

    @property
    def fills(self) -> tuple[str, ...]:
        own = ("setup", "shape_encoder_gradient")
        return own if self.measure == "cosine" else (*own, "before_step")

    @hookimpl
    def setup(self, name: str, tasks: Tasks) -> None:
        self.is_primary = nn.Buffer(primary_mask(name, self.primary, tasks), persistent=False)
        self.weights = nn.Buffer(torch.full((len(tasks),), self.initial_weight))
        self.sums = nn.Buffer(torch.zeros(len(tasks)))
        self.counts = nn.Buffer(torch.zeros(len(tasks)))
        self.learning_rate = 1.0

    @property
    def _primary_names(self) -> tuple[str, ...]:
        return (self.primary,) if isinstance(self.primary, str) else self.primary

    @hookimpl
    def before_step(self, look_ahead: LookAhead) -> None:
        self.learning_rate = look_ahead.learning_rate

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Shaped:
        g = gradients.gramian
        primary = self.is_primary
        products, cosines = against_primary(g, primary)
        agreement = cosines if self.measure == "cosine" else self.learning_rate * products
        both = gradients.reached & (gradients.reached & primary).any() & ~primary
        weights = torch.where(primary, torch.ones_like(g[0]), self.weights.to(g.dtype))
        self._log(weights, gradients.step)
        return Shaped(weights, self._after(agreement, both))

    def _after(self, agreement: Tensor, both: Tensor) -> dict[str, Tensor]:
        """The state after a step: a task with N agreements moves by β times their mean and counts again."""
        sums = torch.where(both, self.sums + agreement, self.sums)
        counts = self.counts + both
        full = counts == self.steps
        moved = (self.weights + self.beta * sums / self.steps).clamp(min=0)
        zero = torch.zeros_like(counts)
        return {
            "weights": torch.where(full, moved, self.weights),
            "sums": torch.where(full, zero, sums),
            "counts": torch.where(full, zero, counts),
        }

    def _log(self, weights: Tensor, step: Step | None) -> None:
        if step is not None:
            for task, weight in zip(step.tasks.names, weights, strict=True):
                if task not in self._primary_names:
                    step.log(f"weight/{task}", weight)
