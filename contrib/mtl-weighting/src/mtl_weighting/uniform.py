"""Uniform: the sum of the tasks' losses.

Shape letters: K tasks.
"""

from __future__ import annotations

from torch import Tensor

from mtl_core import About, hookimpl, plugin
from mtl_weighting.rules import present


@plugin
class Uniform:
    """Uniform weights: Σ L_t, core's default by name."""

    about = About(
        formula="Σ L_t",
        source="common practice",
        cost="nothing",
        departs="nowhere",
    )

    @hookimpl
    def combine_losses(self, losses: Tensor, active: Tensor) -> Tensor:
        return present(losses, active).sum()
