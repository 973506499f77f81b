"""GradNorm: loss weights that let all tasks learn at similar rates.

Shape letters: K tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs
import torch
from attrs import field, validators
from torch import Tensor, nn

from mtl_core import About, EncoderGradients, MtlError, Shaped, Step, Tasks, help, hookimpl, plugin

_Optimizer = Literal["adam", "sgd"]
_HOOKS = {"losses": ("combine_losses", "watch_encoder_gradient"), "encoder": ("shape_encoder_gradient",)}
_BETAS = (0.9, 0.999)
_SMALLEST = 1e-3
"""No weight falls below this: at 0 a task would have no gradient to come back by."""


@plugin
class GradNorm(nn.Module):
    """GradNorm: weights that bring the norms of the tasks' gradients together, slower tasks to larger ones.

    Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks", ICML 2018.
    The weights multiply the losses and learn from the norms of the branch gradients, so that any plugin may shape these
    beside it. With ``place = "encoder"`` they multiply the branches, and any plugin may combine the losses.
    """

    about = About(
        formula="w ← w − η ∂/∂w Σ |‖w_t b_t‖ − ⟨mean · r_t^α⟩|, Σ w kept; r_t the relative inverse training rate",
        source="Chen et al., ICML 2018, Eq. 2 and Alg. 1",
        cost='inner products at the features (level = "features") instead of K backward passes',
        departs="norms at the features by default, published: at the last shared layer; missing labels",
    )

    alpha: float = field(
        default=1.5,
        validator=validators.ge(0),
        metadata=help("α, how strongly tasks that learn slowly are favoured; 0 makes all norms equal"),
    )
    weight_learning_rate: float = field(
        default=0.025, validator=validators.gt(0), metadata=help("learning rate of the weights")
    )
    optimizer: _Optimizer = field(
        default="adam", validator=validators.in_(("adam", "sgd")), metadata=help("how the weights are moved")
    )
    place: Literal["losses", "encoder"] = field(
        default="losses",
        validator=validators.in_(tuple(_HOOKS)),
        metadata=help("what the weights multiply: the losses, or only what enters the encoder"),
    )

    @property
    def fills(self) -> tuple[str, ...]:
        """The hooks that this instance answers."""
        return "setup", *_HOOKS[self.place]

    @hookimpl
    def setup(self, name: str, tasks: Tasks, places: Mapping[str, str]) -> None:
        hook = _HOOKS[self.place][0]
        if places.get(hook, name) != name:
            raise MtlError(
                f'{name}: place = "{self.place}" needs the hook {hook}, which plugin "{places[hook]}" fills;'
                f' give it the place ([use] {hook} = "{name}"), or choose the other place'
            )
        for buffer, value in _start(len(tasks)).items():
            self.register_buffer(buffer, value)

    @property
    def memory(self) -> Memory:
        return Memory(**dict(self.named_buffers()))

    @hookimpl
    def combine_losses(self, losses: Tensor, active: Tensor, step: Step) -> Tensor:
        return torch.where(active, self.memory.weights * losses, torch.zeros_like(losses)).sum()

    @hookimpl
    def watch_encoder_gradient(self, gradients: EncoderGradients) -> dict[str, Tensor]:
        return self._learn(gradients, gradients.norms)

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Shaped:
        weights = self.memory.weights.to(gradients.gramian.dtype, copy=True)  # core writes the buffer before it logs
        return Shaped(weights, self._learn(gradients, weights * gradients.norms))

    def _learn(self, gradients: EncoderGradients, norms: Tensor) -> dict[str, Tensor]:
        """The state after this step, from the norms (K,) of the weighted gradients."""
        before = self.memory.noting(gradients.means, gradients.active)
        chosen = gradients.active & gradients.reached & before.seen & gradients.means.isfinite()
        rates = relative_rates(gradients.means, before.first, chosen)
        slope = slopes(norms, rates, before.weights.to(norms.dtype), chosen, self.alpha)
        self._log(before.weights.clone(), gradients.step)
        return attrs.asdict(before.moved(slope, chosen, self.weight_learning_rate, self.optimizer))

    def _log(self, weights: Tensor, step: Step | None) -> None:
        if step is not None:
            for task, weight in zip(step.tasks.names, weights, strict=True):
                step.log(f"weight/{task}", weight)


def _start(tasks: int) -> dict[str, Tensor]:
    """The fields of :class:`Memory` before the first step."""
    zeros = {name: torch.zeros(tasks) for name in ("first", "slope", "square", "count")}
    return {"weights": torch.ones(tasks), "seen": torch.zeros(tasks, dtype=torch.bool), **zeros}


@attrs.frozen(eq=False)
class Memory:
    """What GradNorm remembers of every task, each (K,).

    ``weights`` w, Σw = K; ``first`` L_t(0), the mean loss of the first step in which the task was active, and ``seen``,
    whether there was one; ``slope`` and ``square``, Adam's running means, and ``count``, of how many steps.
    """

    weights: Tensor
    first: Tensor
    seen: Tensor
    slope: Tensor
    square: Tensor
    count: Tensor

    def noting(self, means: Tensor, active: Tensor) -> Memory:
        """With L_t(0) of the tasks that are active for the first time."""
        usable = active & means.isfinite() & (means > 0)
        first = torch.where(usable & ~self.seen, means, self.first)
        return attrs.evolve(self, first=first, seen=self.seen | usable)

    def moved(self, slope: Tensor, chosen: Tensor, learning_rate: float, optimizer: _Optimizer) -> Memory:
        """After one step along a slope (K,) of the chosen tasks; the others keep everything.

        Σw over the chosen tasks does not change, so that Σw over all tasks stays K.
        """
        after = self if optimizer == "sgd" else self._averaged(slope, chosen)
        direction = slope if optimizer == "sgd" else after._adam()
        moved = (self.weights - learning_rate * direction).clamp(min=_SMALLEST)
        scale = _sum_of(self.weights, chosen) / _sum_of(moved, chosen)
        return attrs.evolve(after, weights=torch.where(chosen, moved * scale, self.weights))

    def _averaged(self, slope: Tensor, chosen: Tensor) -> Memory:
        """With one more slope in Adam's running means of the chosen tasks."""
        first, second = _BETAS
        mean = first * self.slope + (1 - first) * slope
        square = second * self.square + (1 - second) * slope**2
        return attrs.evolve(
            self,
            slope=torch.where(chosen, mean, self.slope),
            square=torch.where(chosen, square, self.square),
            count=self.count + chosen,
        )

    def _adam(self) -> Tensor:
        """Adam's direction, its means corrected for their start at 0."""
        first, second = _BETAS
        mean = self.slope / (1 - first**self.count)
        square = self.square / (1 - second**self.count)
        return mean / (square.sqrt() + 1e-8)


def _sum_of(values: Tensor, chosen: Tensor) -> Tensor:
    # not multiplied with 0: what is NaN in another task would stay NaN
    return torch.where(chosen, values, torch.zeros_like(values)).sum()


def relative_rates(means: Tensor, first: Tensor, chosen: Tensor) -> Tensor:
    """r_t = (L̄_t/L_t(0)) / mean of the same over the chosen tasks: above 1 where a task learns slowly.

    :param means: L̄_t (K,)
    :param first: L_t(0) (K,)
    :param chosen: bool (K,)
    :return: (K,), arbitrary for tasks that are not chosen; 1 where all losses are 0
    """
    ratios = means / first
    mean = _sum_of(ratios, chosen) / chosen.sum()
    return torch.where(mean > 0, ratios / mean, torch.ones_like(ratios))


def slopes(norms: Tensor, rates: Tensor, weights: Tensor, chosen: Tensor, alpha: float) -> Tensor:
    """Gradient of Σ_t |‖w_t b_t‖ − target_t| by w, with target_t = mean norm · r_t^α held fixed; Chen et al., Eq. 2.

    It is divided by the mean norm, so that a learning rate means the same whatever the gradients' size.

    :param norms: ‖w_t b_t‖ (K,), with the weights in them
    :param rates: r_t (K,)
    :param weights: w (K,)
    :param chosen: bool (K,), tasks over which sum and mean go
    :return: (K,), 0 for the others
    """
    mean = _sum_of(norms, chosen) / chosen.sum()
    found = torch.sign(norms - mean * rates**alpha) * norms / weights / mean
    return torch.where(chosen, found, torch.zeros_like(found))
