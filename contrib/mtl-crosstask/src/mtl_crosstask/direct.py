"""Direct cross-task maps.

Shape letters: B samples, K tasks.
"""

from __future__ import annotations

import torch
from attrs import field
from attrs.validators import ge
from torch import Tensor, nn

from mtl_core import About, Step, help, hookimpl, plugin
from mtl_crosstask.maps import attached, entered, has_label, pairs, predicted
from mtl_crosstask.options import MapOptions


@plugin
class DirectMap(MapOptions, nn.Module):
    """What a map makes of an unlabelled task's prediction must fit another task's label.

    Zamir et al., "Robust Learning Through Cross-Task Consistency", CVPR 2020, as Li et al., CVPR 2022, use it for
    partial labels; how the pairs are weighed is reconstructed.
    """

    about = About(
        formula="(1/N) Σ_x Σ_{s∈U_x, t∈T_x} L^t(m^{s→t}(ŷ^s), y^t) / |U_x|",
        source=(
            "Zamir et al., Robust Learning Through Cross-Task Consistency, CVPR 2020; for partial labels Li et "
            "al., CVPR 2022"
        ),
        cost="K(K − 1) whole networks, each passed once by the whole batch",
        departs="how pairs are weighed is reconstructed",
    )

    weight: float = field(default=1.0, validator=ge(0.0), metadata=help("coefficient of the term"))

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        """Σ_{s∈U_x, t∈T_x} L^t(m^{s→t}(ŷ^s), y^t) / |U_x|, the mean over the samples."""
        missing = torch.stack([~has_label(step, task) for task in self.mapped], 1).sum(1).clamp(min=1)
        total = torch.zeros_like(step.losses[:, 0])
        for s, t in pairs(self.mapped):
            counts = has_label(step, t) & ~has_label(step, s)
            guess = entered(attached(predicted(step, s), counts))
            losses = t.loss(self.m[s, t](guess).float(), step.targets[t.name])
            total = total + torch.where(counts, losses, torch.zeros_like(losses))
        return {"mapped": self.weight * (total / missing).mean()}
