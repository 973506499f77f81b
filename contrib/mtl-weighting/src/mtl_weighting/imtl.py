"""IMTL: impartial losses and impartial gradients.

Shape letters: K tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from attrs import field, validators
from torch import Tensor, nn

from mtl_core import About, EncoderGradients, Step, Tasks, help, hookimpl, plugin
from mtl_weighting.gramians import cosines, per_branch, with_ridge

_HOOKS = {"losses": ("combine_losses", "parameter_groups"), "gradients": ("shape_encoder_gradient",)}


@plugin
class IMTL(nn.Module):
    """IMTL: losses brought to one size, gradients with equal projections onto every task's direction.

    Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021. IMTL-L learns a scale for every loss; IMTL-G solves
    for the weights with which the shared encoder's gradient has the same projection onto each task's own gradient.
    """

    about = About(
        formula="IMTL-L: Σ e^{s_t} L_t − s_t; IMTL-G: b = Σ α_t b_t, Σ α = 1, equal projections ⟨b, b_t/‖b_t‖⟩",
        source="Liu et al., ICLR 2021, Sec. 3.1 and 3.2",
        cost="inner products at the features and one K × K solve on the device",
        departs="a small ridge keeps the solve finite; missing labels",
    )

    parts: Literal["both", "losses", "gradients"] = field(
        default="both",
        validator=validators.in_(("both", "losses", "gradients")),
        metadata=help("both = IMTL, losses = IMTL-L alone, gradients = IMTL-G alone"),
    )
    scale_learning_rate: float | None = field(
        default=None,
        validator=validators.optional(validators.gt(0)),
        metadata=help('learning rate of the scales s of IMTL-L; "none" takes the experiment\'s'),
    )

    @property
    def fills(self) -> tuple[str, ...]:
        """The hooks that this instance answers."""
        if self.parts == "both":
            return "setup", *_HOOKS["losses"], *_HOOKS["gradients"]
        return "setup", *_HOOKS[self.parts]

    @hookimpl
    def setup(self, name: str, tasks: Tasks, places: Mapping[str, str]) -> None:
        combines = self.parts != "gradients" and places.get("combine_losses", name) == name
        # a parameter without a gradient would make DDP wait, where another plugin combines the losses
        self.log_scale = nn.Parameter(torch.zeros(len(tasks))) if combines else None

    @hookimpl
    def parameter_groups(self, learning_rate: float) -> Sequence[Mapping[str, Any]] | None:
        if self.log_scale is None:
            return None
        rate = learning_rate if self.scale_learning_rate is None else self.scale_learning_rate
        return [{"params": [self.log_scale], "lr": rate, "weight_decay": 0.0}]

    @hookimpl
    def combine_losses(self, losses: Tensor, means: Tensor, active: Tensor, step: Step) -> Tensor:
        assert self.log_scale is not None
        for task, scale in zip(step.tasks.names, self.log_scale.detach().exp(), strict=True):
            step.log(f"scale/{task}", scale)
        return scaled_losses(losses, means, active, self.log_scale)

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return impartial_gradients(gradients.gramian, gradients.reached).to(gradients.gramian.dtype)


def scaled_losses(losses: Tensor, means: Tensor, active: Tensor, log_scale: Tensor) -> Tensor:
    """IMTL-L: Σ_active q_t (e^{s_t} L̄_t − s_t) with q_t = L_t / L̄_t, Liu et al., Sec. 3.2.

    q_t, the share of the batch that carries t, is a constant: s_t settles where e^{s_t} L̄_t = 1, however few labels
    there are, and a task without a label gives no gradient.

    :param losses: L_t (K,)
    :param means: L̄_t (K,)
    :param active: bool (K,)
    :param log_scale: s (K,)
    :return: scalar
    """
    means = means.detach()
    share = torch.where(means == 0, torch.zeros_like(means), losses.detach() / means)
    terms = losses * log_scale.exp() - share * log_scale
    return torch.where(active, terms, torch.zeros_like(terms)).sum()


def impartial_gradients(gramian: Tensor, reached: Tensor) -> Tensor:
    """IMTL-G: weights α, Σα = 1, for which b = Σ α_t b_t has the same ⟨b, b_t/‖b_t‖⟩ for every t; Liu et al., Eq. 5.

    With α_t = β_t/‖b_t‖ these are the solutions of C β = c 1, C the cosines: the closed form of the paper in other
    words, without a task that comes first. Dependent gradients are solved for with a small ridge on C.

    :param gramian: G (K, K)
    :param reached: bool (K,)
    :return: (K,), precise; 0 for a branch that nothing reached
    """
    c = with_ridge(cosines(gramian, reached), gramian.dtype)
    beta = torch.linalg.solve_ex(c, torch.ones_like(c[:, 0]))[0]
    weights = per_branch(beta, gramian, reached)
    total = weights.sum()
    return torch.where(total == 0, torch.zeros_like(weights), weights / total)
