"""Auto-λ: task weights learned from their effect on the primary tasks' loss one step ahead.

Shape letters: K tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from attrs import field, validators
from torch import Tensor, nn

from mtl_auxiliary.primary import primary_mask
from mtl_core import (
    About,
    Batch,
    EncoderGradients,
    LookAhead,
    MtlError,
    Parameters,
    Step,
    Tasks,
    help,
    hookimpl,
    plugin,
)

_HOOKS = {"losses": "combine_losses", "encoder": "shape_encoder_gradient"}
_BETAS = (0.9, 0.999)
_SMALL = 1e-8
_REACH = 0.01
"""Length of the finite difference in parameter space, as in the official code."""


@plugin
class AutoLambda(nn.Module):
    """Auto-λ: every step moves the task weights so that a virtual step lowers the primary tasks' loss further.

    Liu et al., "Auto-Lambda: Disentangling Dynamic Task Relationships", TMLR 2022. The gradient of the loss after the
    virtual step by the weights is a finite difference, as in the official code. Beyond it: batches in which tasks have
    no label, weights that are never negative, and weights for the encoder only.
    """

    about = About(
        formula="λ ← Adam(λ, ∂L_pri^val(θ − η ∇ Σ λ_t L_t)/∂λ), by a finite difference",
        source="Liu, James, Davison, Johnson, Auto-Lambda, TMLR 2022, Eq. 5 to 7",
        cost="one virtual step, one pass on a second batch and two for the difference: about 4 uniform steps",
        departs=(
            "the official code does not keep λ at 0 or more; missing labels; no augmentation beyond the step's own"
        ),
    )

    primary: str | tuple[str, ...] = field(
        default=(), metadata=help("auxiliary mode: the task, or tasks, whose loss is looked at; empty: multi-task, all")
    )
    place: Literal["losses", "encoder"] = field(
        default="losses",
        validator=validators.in_(tuple(_HOOKS)),
        metadata=help("what λ weighs: the losses, or only what enters the encoder; another rule combines the losses"),
    )
    initial_weight: float = field(
        default=0.01, validator=validators.gt(0), metadata=help("λ of every task at the start; official code: 0.1")
    )
    weight_learning_rate: float = field(
        default=1e-4, validator=validators.gt(0), metadata=help("learning rate of λ, with Adam")
    )
    validation_batch: Literal["training", "validation"] = field(
        default="training",
        validator=validators.in_(("training", "validation")),
        metadata=help("where the batch comes from on which the virtual step is tried; official code: training"),
    )

    @property
    def fills(self) -> tuple[str, ...]:
        return "setup", "before_step", _HOOKS[self.place]

    @hookimpl
    def setup(self, name: str, tasks: Tasks, places: Mapping[str, str]) -> None:
        if len(tasks) < 2:
            raise MtlError(
                f"{name}: weighs tasks by their effect on one another, and there is one ({tasks[0].name});"
                " remove the plugin, or add a task"
            )
        hook = _HOOKS[self.place]
        if places.get(hook, name) != name:
            raise MtlError(
                f'{name}: place = "{self.place}" needs the hook {hook}, which plugin "{places[hook]}" fills;'
                f' give it the place ([use] {hook} = "{name}"), or choose the other place'
            )
        self.is_primary = nn.Buffer(primary_mask(name, self.primary or tasks.names, tasks), persistent=False)
        self.weights = nn.Buffer(torch.full((len(tasks),), self.initial_weight))
        self.first = nn.Buffer(torch.zeros(len(tasks)))
        self.second = nn.Buffer(torch.zeros(len(tasks)))
        self.count = nn.Buffer(torch.zeros(len(tasks)))

    @hookimpl
    def before_step(self, look_ahead: LookAhead) -> None:
        second = look_ahead.second_batch(self.validation_batch)
        slope = _weight_slope(look_ahead, second, self.weights, self.is_primary, heads=self.place == "losses")
        self._move(slope, look_ahead.active(look_ahead.train_batch) & slope.isfinite())

    def _move(self, slope: Tensor, known: Tensor) -> None:
        """One step of Adam; a task whose slope (K,) is not known keeps its weight and its moments."""
        a, b = _BETAS
        count = self.count + known
        first = a * self.first + (1 - a) * slope
        second = b * self.second + (1 - b) * slope**2
        # 1 − β^count: the moments are corrected for their start at 0, in float32 to the last digit
        past_a, past_b = (-torch.expm1(count * math.log(beta)) for beta in _BETAS)
        step = (first / past_a) / ((second / past_b).sqrt() + _SMALL)
        weights = (self.weights - self.weight_learning_rate * step).clamp(min=0)
        after = {"weights": weights, "first": first, "second": second, "count": count}
        for name, value in after.items():
            buffer = getattr(self, name)
            buffer.copy_(torch.where(known, value, buffer))

    @hookimpl
    def combine_losses(self, losses: Tensor, active: Tensor, step: Step) -> Tensor:
        self._log(step)
        return torch.where(active, self.weights * losses, torch.zeros_like(losses)).sum()

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        """λ_t ∇L_t: the weight with which decoder t trains is divided out where the task has a label."""
        self._log(gradients.step)
        w = gradients.decoder_weights
        divided = gradients.active & (w != 0)
        return self.weights.to(w.dtype) / torch.where(divided, w, torch.ones_like(w))

    def _log(self, step: Step | None) -> None:
        if step is not None:
            for task, weight in zip(step.tasks.names, self.weights, strict=True):
                step.log(f"lambda/{task}", weight)


def _weight_slope(look_ahead: LookAhead, second: Batch, weights: Tensor, primary: Tensor, heads: bool = True) -> Tensor:
    """∂/∂λ of the primary loss after a virtual step, −η (L(θ + εv) − L(θ − εv)) / 2ε; Liu et al., Section 3.

    θ' = θ − η ∇ Σ_t λ_t L_t(θ) on the step's batch, v = ∇_θ' Σ_{t primary} L_t(θ') on the second one, ε = 0.01/‖v‖.

    :param weights: λ (K,)
    :param primary: bool (K,)
    :param heads: whether λ weighs the heads' training too; otherwise only the encoder's
    :return: (K,), NaN where no primary task has a label in the second batch
    """
    train = look_ahead.train_batch
    theta = look_ahead.parameters(heads)
    total = (weights * look_ahead.losses(train, theta)).sum()
    ahead = look_ahead.stepped(theta, look_ahead.gradient(total, theta))
    losses = look_ahead.losses(second, ahead)
    v = look_ahead.gradient(torch.where(primary, losses, torch.zeros_like(losses)).sum(), ahead)
    reach = _REACH / torch.nn.utils.get_total_norm(v.values())
    with torch.no_grad():  # with heads=False the heads' own parameters would keep a graph alive in the weights
        above = look_ahead.losses(train, _moved(theta, v, reach))
        below = look_ahead.losses(train, _moved(theta, v, -reach))
    return -look_ahead.learning_rate * (above - below) / (2 * reach)


def _moved(parameters: Parameters, direction: Parameters, length: Tensor) -> Parameters:
    return {name: p.detach() + length * direction[name] for name, p in parameters.items()}
