"""Impartial Auxiliary Learning as a plugin: two hooks, and σ's own learning rate.

Shape letters: K tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs
import torch
from attrs import field, validators
from torch import Tensor, nn

from mtl_core import About, EncoderGradients, Shaped, Step, Tasks, help, hookimpl, plugin
from mtl_ial.measures import Measure, Progress, cosines, expected_norm, speed
from mtl_ial.rules import (
    Reference,
    encoder_weight,
    inverse,
    plain_weights,
    primary_coefficients,
    primary_norm,
    uncertainty_loss,
    weights_for_norm,
)


def _not_negative(instance: object, attribute: Any, value: dict[str, float]) -> None:
    wrong = [f"{task} = {weight}" for task, weight in value.items() if not 0 <= weight < math.inf]
    if wrong:
        raise ValueError(f"expected weights of 0 or more, found {wrong[0]}")


@plugin
class IAL(nn.Module):
    """Impartial Auxiliary Learning: every decoder trains fully, the primary task leads the encoder.

    Li et al., "Unprejudiced Training Auxiliary Tasks Makes Primary Better: A Multi-Task Learning Perspective", Eq. 3 to
    10. Decoders and σ learn by uncertainty weighting. Into the encoder go the primary branch with weight 1 and the
    auxiliary branches, brought to the primary's norm and weighted by f(σ_t). Beyond the paper, which has every label:
    several primary tasks, batches without a primary label, and another plugin's rule for the decoders.
    """

    primary: str | tuple[str, ...] = field(
        validator=validators.min_len(1),
        metadata=help("the task, or tasks, that the encoder is trained for"),
    )
    mapping: Literal["relu", "softplus"] = field(
        default="relu",
        validator=validators.in_(("relu", "softplus")),
        metadata=help("g in f(σ) = min(1, g(1 − σ)), the weight of an auxiliary task"),
    )
    initial_weight: float = field(
        default=0.1,
        validator=(validators.gt(0), validators.lt(1)),
        metadata=help("f(σ) that every task starts with, 0..1"),
    )
    sigma_learning_rate: float | None = field(
        default=None,
        validator=validators.optional(validators.gt(0)),
        metadata=help('learning rate of log σ; "none" takes the experiment\'s'),
    )
    measure: Measure = field(
        default="uncertainty",
        validator=validators.in_(("uncertainty", "fixed", "speed", "norm", "cosine")),
        metadata=help("what auxiliary tasks are weighted by (Tab. XI); the method is uncertainty"),
    )
    weights: dict[str, float] = field(
        factory=dict,
        validator=_not_negative,
        metadata=help("measure fixed: weight of each auxiliary task; those not named have initial_weight"),
    )
    match_norms: bool = field(
        default=True, metadata=help("bring auxiliary branches to the primary's norm (off: Tab. VIII, uncertainty only)")
    )
    momentum: float = field(
        default=0.99,
        validator=(validators.ge(0), validators.lt(1)),
        metadata=help("of the running mean of ‖b_pri‖, for batches without a primary label"),
    )

    about = About(
        formula=(
            "decoders and σ: Σ_active s_t (L̄_t/(2σ_t²) + log σ_t); encoder: b = b_pri + Σ_aux f(σ_t) · "
            "‖b_pri‖/‖b_t‖ · b_t, f(σ) = min(1, g(1 − σ))"
        ),
        source=(
            "Li et al., Unprejudiced Training Auxiliary Tasks Makes Primary Better: A Multi-Task Learning "
            "Perspective, Eq. 3 to 10"
        ),
        cost="no further pass: K(K + 1)/2 inner products at the features; one scalar per task; no host sync",
        departs=(
            "missing labels, several primary tasks and another plugin's loss rule, of which the paper says "
            "nothing; the measures of Tab. XI are reconstructed"
        ),
    )

    @hookimpl
    def setup(self, name: str, tasks: Tasks, places: Mapping[str, str]) -> None:
        self.combines = places.get("combine_losses", name) == name
        chosen = [_known(f"{name}.primary", task, tasks) for task in self._primary_names]
        start = math.log(inverse(self.initial_weight, self.mapping))
        self.log_sigma = nn.Parameter(torch.full((len(tasks),), start))
        self.is_primary = nn.Buffer(torch.tensor([task in chosen for task in tasks.names]), persistent=False)
        self.fixed = nn.Buffer(_fixed_weights(name, self.weights, tasks, self.initial_weight), persistent=False)
        for key, value in attrs.asdict(Progress.empty(len(tasks))).items():
            self.register_buffer(key, value)
        self.norm_mean = nn.Buffer(torch.zeros(()))
        self.norm_count = nn.Buffer(torch.zeros(()))

    @property
    def _primary_names(self) -> tuple[str, ...]:
        return (self.primary,) if isinstance(self.primary, str) else self.primary

    @hookimpl
    def parameter_groups(self, learning_rate: float) -> Sequence[Mapping[str, Any]]:
        """σ's own: weight decay would pull σ to 1, where auxiliary tasks are left out of the encoder."""
        rate = learning_rate if self.sigma_learning_rate is None else self.sigma_learning_rate
        return [{"params": [self.log_sigma], "lr": rate, "weight_decay": 0.0}]

    @hookimpl
    def combine_losses(self, losses: Tensor, means: Tensor, active: Tensor, step: Step) -> Tensor:
        self._observe(step)
        return uncertainty_loss(losses, means, active, self.log_sigma)

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor] | None:
        """Where another plugin combines the losses, σ learns from detached ones."""
        if self.combines:
            return None
        self._observe(step)
        losses = step.task_losses.detach()
        return {"uncertainty": uncertainty_loss(losses, step.task_means, step.active, self.log_sigma)}

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Shaped:
        g = gradients.gramian
        weights = gradients.decoder_weights
        active = gradients.active
        coefficients = primary_coefficients(self.is_primary, weights, active)
        chosen = self._chosen_weights(g, coefficients)
        if not self.match_norms:
            return Shaped(plain_weights(g, chosen, self.is_primary, weights, active))
        # the reference of this step is the mean before it: it is used where the batch has no primary label
        before = Reference(self.norm_mean, self.norm_count)
        norm = primary_norm(g, coefficients, active)
        corrected = before.corrected(self.momentum)
        shaped = weights_for_norm(g, chosen, self.is_primary, coefficients, norm, corrected)
        after = before.updated(*norm, self.momentum)
        return Shaped(shaped, {"norm_mean": after.mean, "norm_count": after.count})

    def _chosen_weights(self, gramian: Tensor, coefficients: Tensor) -> Tensor:
        """f of every task, (K,): of σ, or of what ``measure`` names."""
        if self.measure == "cosine":
            return cosines(gramian, coefficients)
        return self.auxiliary_weights

    @property
    def auxiliary_weights(self) -> Tensor:
        """f of every task, (K,), as far as it does not depend on the gradients."""
        if self.measure == "speed":
            return speed(self._progress, ~self.is_primary, self.initial_weight)
        if self.measure == "norm":
            return expected_norm(self._progress, ~self.is_primary, self.initial_weight)
        return self.fixed if self.measure == "fixed" else encoder_weight(self.log_sigma.detach().exp(), self.mapping)

    @property
    def _progress(self) -> Progress:
        return Progress(**{a.name: getattr(self, a.name) for a in attrs.fields(Progress)})

    def _keep(self, progress: Progress) -> None:
        """Write it into buffers: core puts them back if the step is skipped."""
        for key, value in attrs.asdict(progress).items():
            getattr(self, key).copy_(value)

    def _observe(self, step: Step) -> None:
        """Record the tasks' progress, and log σ and f."""
        if self.measure in ("speed", "norm"):
            self._keep(self._progress.seen(step.task_means.detach(), step.active))
        sigma = self.log_sigma.detach().exp()
        weights = self.auxiliary_weights
        for k, task in enumerate(step.tasks.names):
            step.log(f"sigma/{task}", sigma[k])
            if task not in self._primary_names and self.measure != "cosine":
                step.log(f"weight/{task}", weights[k])

    @hookimpl
    def after_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if self.measure == "speed":
            self._keep(self._progress.ended())


def _fixed_weights(name: str, weights: Mapping[str, float], tasks: Tasks, default: float) -> Tensor:
    for task in weights:
        _known(f"{name}.weights", task, tasks)
    return torch.tensor([weights.get(task, default) for task in tasks.names])


def _known(option: str, task: str, tasks: Tasks) -> str:
    return tasks.choose((task,), option)[0].name
