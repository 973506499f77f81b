"""PUW: weights of the losses found by a particle filter, from validation performance and predictive uncertainty.

Shape letters: B samples, K tasks, P particles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from attrs import field, validators
from torch import Tensor, nn

from mtl_core import About, MtlError, Step, Task, Tasks, generator_for, help, hookimpl, plugin
from mtl_weighting.rules import log_per_task, weighted_sum

_SUMS = ("count", "sum", "square")
_SMALLEST = 1e-5
"""A (std/mean)² below it may be what rounding has left of equal losses: an epoch's sums are float32."""


@plugin
class PUW(nn.Module):
    """PUW (reconstructed): loss weights as particles, kept where validation improves and predictions grow certain.

    Aghajanzadeh et al., "Task weighting based on particle filter in deep multi-task learning with a view to uncertainty
    and performance", Pattern Recognition 2023. Only the abstract is public, so that the formulas are reconstructed. A
    particle is a vector of weights; each is tried for one epoch, then all are weighed, resampled and moved.
    """

    about = About(
        formula="loss weights as particles: moved with noise, weighed by validation metrics and certainty, resampled",
        source="Aghajanzadeh et al., Pattern Recognition 2023 (abstract)",
        cost="one particle per epoch: nothing in a step; needs validation data",
        departs="reconstructed: only the abstract is public",
    )

    particles: int = field(default=5, validator=validators.ge(2), metadata=help("weight vectors, each tried an epoch"))
    warmup_epochs: int = field(
        default=3,
        validator=validators.ge(1),
        metadata=help("epochs with equal weights before the first particle; published: 3 % of all epochs"),
    )
    noise: float = field(
        default=0.3, validator=validators.gt(0), metadata=help("standard deviation of a particle's move, in log w")
    )
    uncertainty: float = field(
        default=1.0, validator=validators.ge(0), metadata=help("how much certainty counts beside performance")
    )

    @hookimpl
    def setup(self, name: str, tasks: Tasks) -> None:
        if len(tasks) < 2:
            raise MtlError(
                f"{name}: weights that add up to the number of tasks leave one task ({tasks[0].name}) as it is;"
                " remove the plugin, or add a task"
            )
        self.name = name
        self.tasks = tasks
        # drawn from the run's seed and saved: every later draw is a function of it and of the epoch
        self.key = nn.Buffer(torch.randint(2**62, ()))
        self.weights = nn.Buffer(torch.ones(len(tasks)))
        self.states = nn.Buffer(torch.ones(self.particles, len(tasks)))
        self.gains = nn.Buffer(torch.zeros(self.particles, 2))
        self.trying = nn.Buffer(torch.tensor(-1))
        self.before = nn.Buffer(torch.full((len(tasks), 2), math.nan))

    @hookimpl
    def combine_losses(self, losses: Tensor, active: Tensor, step: Step) -> Tensor:
        log_per_task(step, "weight", self.weights, active)
        for name, row in zip(_SUMS, _moments(step.losses.detach(), step.labelled), strict=True):
            for task, value in zip(step.tasks.names, row, strict=True):
                step.log(f"{name}/{task}", value)
        return weighted_sum(losses, self.weights, active)

    @hookimpl
    def after_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if not any(f"val/{t.name}/{t.main_metric}" in metrics for t in self.tasks):
            raise MtlError(
                f"{self.name}: epoch {epoch} has no validation metrics, by which the weights are chosen;"
                " set validation in the experiment, such as validation = 0.1"
            )
        now = torch.tensor([self._measured(task, metrics) for task in self.tasks])
        if epoch + 1 >= self.warmup_epochs:
            self._advance(epoch, now)
        self.before.copy_(now)

    def _measured(self, task: Task, metrics: Mapping[str, float]) -> tuple[float, float]:
        """(performance, uncertainty) of a task in an epoch: headline metric, and std/mean of its samples' losses."""
        value = metrics.get(f"val/{task.name}/{task.main_metric}", math.nan)
        sums = (metrics.get(f"{self.name}/{name}/{task.name}", math.nan) for name in _SUMS)
        return value, _spread(*sums)

    def _advance(self, epoch: int, now: Tensor) -> None:
        """Record the gain of the particle in use, and take the next one; when all have been tried, make new ones."""
        generator = generator_for(int(self.key), "particles", epoch)
        place = int(self.trying)
        states = self.states.cpu()
        gains = self.gains.cpu()
        if place >= 0:
            gains[place] = _gain(self.before.cpu(), now, [task.main_is_higher for task in self.tasks])
        if place in (-1, self.particles - 1):  # -1: the warm-up is over, and no particle was tried yet
            chosen = states if place == -1 else _resampled(states, _weighed(gains, self.uncertainty), generator)
            states = _moved(chosen, self.noise, generator)
        following = (place + 1) % self.particles
        self.states.copy_(states)
        self.gains.copy_(gains)
        self.trying.fill_(following)
        self.weights.copy_(states[following])


def _moments(losses: Tensor, labelled: Tensor) -> Tensor:
    """Σ m, Σ m L and Σ m L² of this rank's samples, (B, K) → (3, K).

    Always finite, so that an epoch's means over steps and ranks all have the same divisor: their ratios are those of
    the whole epoch, however the labels fall on steps and ranks. A loss that is not finite counts as no label.
    """
    kept = labelled & (losses**2).isfinite()
    losses = torch.where(kept, losses, torch.zeros_like(losses))
    return torch.stack((kept.to(losses.dtype), losses, losses**2)).sum(1)


def _spread(count: float, total: float, square: float) -> float:
    """std/mean of the losses with these sums, up to a common factor; NaN where they do not differ, or are none."""
    if not count > 0 or not total > 0:
        return math.nan
    ratio = square * count / total**2 - 1
    return math.sqrt(ratio) if ratio > _SMALLEST else math.nan


def _gain(before: Tensor, now: Tensor, higher_is_better: list[bool]) -> Tensor:
    """What an epoch brought: mean relative improvement of performance, and of certainty, over the tasks that have both.

    :param before: (K, 2) performance and uncertainty
    :param now: the same, an epoch later
    :param higher_is_better: of each task's performance
    :return: (2,), NaN where no task has a value and an earlier one other than 0
    """
    sign = torch.tensor([[1.0 if higher else -1.0, -1.0] for higher in higher_is_better])
    change = sign * (now - before) / before.abs()
    return change.where(change.isfinite(), math.nan).nanmean(0)


def _weighed(gains: Tensor, uncertainty: float) -> Tensor:
    """Probability of every particle: softmax of its gains, each standardised over the particles; (P, 2) → (P,).

    A gain that is NaN counts as an average one.
    """
    # in float64 the mean of equal gains is exact, and 0/0 is the only case of equal gains
    centred = gains.double() - gains.double().nanmean(0)
    standard = (centred / centred.square().nanmean(0).sqrt()).nan_to_num(0, 0, 0)
    return (standard[:, 0] + uncertainty * standard[:, 1]).softmax(0).float()


def _resampled(states: Tensor, probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """P particles drawn systematically, with one random number: each kept about P times its probability."""
    count = len(states)
    places = (torch.rand((), generator=generator) + torch.arange(count)) / count
    return states[torch.searchsorted(probabilities.cumsum(0), places).clamp(max=count - 1)]


def _moved(states: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Particles (P, K) after a random step in log w, brought back to Σw = K."""
    w = states * (noise * torch.randn(states.shape, generator=generator)).exp()
    return w * states.shape[1] / w.sum(1, keepdim=True)
