"""Measures of an auxiliary task in place of its uncertainty: the alternatives of Tab. VIII and XI.

The paper names the measures and not their formulas: how each becomes a weight in 0..1 is reconstructed.
Shape letters: K tasks.
"""

from __future__ import annotations

from typing import Literal

import attrs
import torch
from torch import Tensor

Measure = Literal["uncertainty", "fixed", "speed", "norm", "cosine"]


@attrs.frozen(eq=False)
class Progress:
    """How the tasks' losses have developed, each (K,): only steps in which a task was labelled count.

    ``first``: L̄_t of the task's first such step, 0 before; ``latest``: L̄_t of its last one; ``sums``, ``counts``: of
    this epoch; ``previous``, ``before``: means of the last two epochs that had any, NaN where there is none yet.
    """

    first: Tensor
    latest: Tensor
    sums: Tensor
    counts: Tensor
    previous: Tensor
    before: Tensor

    @classmethod
    def empty(cls, tasks: int) -> Progress:
        zeros = {name: torch.zeros(tasks) for name in ("first", "latest", "sums", "counts")}
        unknown = {name: torch.full((tasks,), float("nan")) for name in ("previous", "before")}
        return cls(**zeros, **unknown)

    def seen(self, means: Tensor, active: Tensor) -> Progress:
        """With one more step."""
        zero = torch.zeros_like(means)
        return attrs.evolve(
            self,
            first=torch.where(active & (self.first == 0), means, self.first),
            latest=torch.where(active, means, self.latest),
            sums=self.sums + torch.where(active, means, zero),
            counts=self.counts + active,
        )

    def ended(self) -> Progress:
        """After the epoch's last step."""
        had = self.counts > 0
        zero = torch.zeros_like(self.sums)
        return attrs.evolve(
            self,
            sums=zero,
            counts=zero.clone(),
            previous=torch.where(had, self.sums / self.counts, self.previous),
            before=torch.where(had, self.previous, self.before),
        )


def speed(progress: Progress, auxiliary: Tensor, weight: float, temperature: float = 2.0) -> Tensor:
    """Relative training speed: min(1, w · A · softmax_aux(r_t / T)), r_t = L_t(e − 1) / L_t(e − 2) as in DWA; (K,).

    A is the number of auxiliary tasks, so that the mean weight is w; r_t is 1 while two epochs are not known.
    """
    ratio = progress.previous / progress.before
    ratio = torch.where(ratio.isfinite(), ratio, torch.ones_like(ratio))
    scores = torch.where(auxiliary, ratio / temperature, torch.full_like(ratio, -torch.inf))
    return (weight * auxiliary.sum() * scores.softmax(0)).clamp(max=1)


def expected_norm(progress: Progress, auxiliary: Tensor, weight: float, alpha: float = 1.5) -> Tensor:
    """Expected gradient norm: min(1, w · r_t^α), r_t the inverse training rate relative to the auxiliary tasks' mean.

    GradNorm wants ‖b_t‖ to be the mean norm times r_t^α; the branches enter with the primary's norm already, so that
    r_t^α is what remains. A task that has not been seen has r_t = 1; (K,).
    """
    known = auxiliary & (progress.first != 0)
    rate = torch.where(known, progress.latest / progress.first, torch.zeros_like(progress.first))
    mean = rate.sum() / known.sum().clamp(min=1)
    relative = torch.where(known & (mean > 0), rate / mean, torch.ones_like(rate))
    return (weight * relative**alpha).clamp(max=1)


def cosines(gramian: Tensor, coefficients: Tensor) -> Tensor:
    """max(0, cos(b_t, b_pri)), b_pri = Σ_pri coefficient_t · b_t; 0 where either is zero; (K,)."""
    used = coefficients != 0
    rows = torch.where(used, gramian * coefficients, torch.zeros_like(gramian)).sum(1)
    squared = torch.where(used, rows * coefficients, torch.zeros_like(rows)).sum()
    length = gramian.diagonal().clamp(min=0).sqrt() * squared.clamp(min=0).sqrt()
    return torch.where(length == 0, torch.zeros_like(rows), rows / length).clamp(min=0)
