"""Perceptual cross-task maps.

Shape letters: B samples, K tasks, O_s channels of task s, H and W image size.
"""

from __future__ import annotations

import torch
from attrs import field
from attrs.validators import ge, gt
from torch import Tensor, nn
from torch.func import functional_call

from mtl_core import About, Step, Task, help, hookimpl, plugin
from mtl_crosstask.maps import attached, entered, has_label, known, pairs, predicted
from mtl_crosstask.options import MapOptions


@plugin
class PerceptualMap(MapOptions, nn.Module):
    """A labelled task's prediction and its label must look the same to the maps that lead to the other tasks.

    Zamir et al., "Robust Learning Through Cross-Task Consistency", CVPR 2020, as Li et al., CVPR 2022, use it for
    partial labels. There the maps are trained beforehand, with every label; that they learn beside the network, from
    labels and from predictions where there are none, is reconstructed.
    """

    about = About(
        formula=(
            "Σ_{t∈T_x, s≠t} ‖m^{t→s}(ŷ^t) − ⟨m^{t→s}(y^t)⟩‖² for the network; L^s(m^{t→s}(y^t), ⟨y^s or ŷ^s⟩) for"
            " the maps; both over |T_x|(K − 1), mean over x"
        ),
        source=(
            "Zamir et al., Robust Learning Through Cross-Task Consistency, CVPR 2020; for partial labels Li et "
            "al., CVPR 2022"
        ),
        cost="K(K − 1) whole networks, each passed twice by the whole batch",
        departs=(
            "maps that learn beside the network, and how pairs are weighed, are reconstructed; ‖·‖² is a mean square"
            " over pixels and channels, where the norm itself is written"
        ),
    )

    weight: float = field(default=1.0, validator=ge(0.0), metadata=help("coefficient of the distance"))
    map_weight: float = field(default=1.0, validator=gt(0.0), metadata=help("coefficient of what trains the maps"))

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        """Distance and map loss: Σ_{t∈T_x} Σ_{s≠t} (…) / (|T_x| (K − 1)), the mean over the samples."""
        labels = torch.stack([has_label(step, task) for task in self.mapped], 1).sum(1).clamp(min=1)
        distance = torch.zeros_like(step.losses[:, 0])
        map_loss = torch.zeros_like(distance)
        for t, s in pairs(self.mapped):
            apart, off = self._compared(step, t, s)
            distance = distance + torch.where(has_label(step, t), apart, torch.zeros_like(apart))
            map_loss = map_loss + torch.where(has_label(step, t), off, torch.zeros_like(off))
        share = 1 / (labels * (len(self.mapped) - 1))
        return {
            "distance": self.weight * (share * distance).mean(),
            "maps": self.map_weight * (share * map_loss).mean(),
        }

    def _compared(self, step: Step, t: Task, s: Task) -> tuple[Tensor, Tensor]:
        """‖m^{t→s}(ŷ^t) − ⟨m^{t→s}(y^t)⟩‖², which trains the network alone, and L^s of m^{t→s}(y^t); each (B,)."""
        m = self.m[t, s]
        output = m(entered(known(step, t))).float()
        # the distance must not train the map: two equal constants would satisfy it
        fixed = {name: parameter.detach() for name, parameter in m.named_parameters()}
        guess = entered(attached(predicted(step, t), has_label(step, t)))
        guessed = s.to_label_space(functional_call(m, fixed, (guess,)).float())
        apart = (guessed - s.to_label_space(output).detach()).square().flatten(1).mean(1)
        return apart, s.soft_loss(output, known(step, s)).flatten(1).mean(1)
