"""Miraliev's weighting: an uncertainty for every objective, where a task has several.

Shape letters: B samples, K tasks, J further objectives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from attrs import field, validators
from torch import Tensor

from mtl_core import About, Step, Tasks, at_least_float32, help, hookimpl, plugin
from mtl_weighting.objectives import OBJECTIVES
from mtl_weighting.rules import present, shares, uncertainty_terms
from mtl_weighting.uw import UW


@plugin
class Miraliev(UW):
    """Miraliev (reconstructed): UW with one uncertainty per objective, such as cross-entropy and Dice.

    Miraliev et al., "Real-Time Memory Efficient Multitask Learning Model for Autonomous Driving", IEEE Transactions on
    Intelligent Vehicles 2024. Its formula is not public, only that the objectives of a task do not share a weight and
    are weighted jointly; this is reconstructed from that. With no further objective it is UW.
    """

    about = About(
        formula="Σ over objectives o of all tasks: s_o (L̄_o/(2σ_o²) + log σ_o)",
        source="Miraliev et al., IEEE T-IV 2024 (abstract)",
        cost="one scalar and one further loss per objective",
        departs="reconstructed: the formula is not public",
    )

    objectives: tuple[Literal["dice", "gradient"], ...] = field(
        default=("dice",),
        validator=validators.deep_iterable(validators.in_(OBJECTIVES)),
        metadata=help("beside a task's loss: dice (segmentation, edges), gradient (depth and other regression)"),
    )

    @hookimpl
    def setup(self, name: str, tasks: Tasks, places: Mapping[str, str]) -> None:
        self.further: list[tuple[str, str]] = []
        for objective in self.objectives:
            fitting = [task for task in tasks if isinstance(task, OBJECTIVES[objective].kinds)]
            self.further += [(task.name, objective) for task in fitting]
        self.columns = [tasks.position(task) for task, _ in self.further]
        self._make_sigma(name, places, len(tasks) + len(self.further))

    @hookimpl
    def combine_losses(self, losses: Tensor, means: Tensor, active: Tensor, step: Step) -> Tensor:
        assert self.log_sigma is not None
        every = torch.cat((present(losses, active), self._further_losses(step)))
        share = shares(losses, means, active)
        # an objective is labelled where its task is
        share = torch.cat((share, *(share[k : k + 1] for k in self.columns)))
        self._log(step, every, share)
        return uncertainty_terms(every, share, self.log_sigma).sum()

    def _further_losses(self, step: Step) -> Tensor:
        """O_j (J,): like L_t of its task, with the same weight for every sample.

        That is this rank's part; the sum is linear in it, so that averaged gradients are those of the global batch.
        """
        if not self.further:
            return step.task_losses.new_zeros(0)
        weights = torch.autograd.grad(step.task_losses.sum(), step.losses, retain_graph=True)[0]
        totals = []
        for column, (task, objective) in zip(self.columns, self.further, strict=True):
            totals.append((weights[:, column] * self._sample_losses(step, task, objective)).sum())
        return torch.stack(totals)

    def _sample_losses(self, step: Step, task: str, objective: str) -> Tensor:
        """Losses (B,) of one objective on view 0; 0 where there is no label."""
        prediction = step.predictions[task][0]
        precise = at_least_float32(prediction)
        return OBJECTIVES[objective].loss(step.tasks[task], precise, step.targets[task])

    def _log(self, step: Step, losses: Tensor, share: Tensor) -> None:
        assert self.log_sigma is not None
        names = [*step.tasks.names, *map("/".join, self.further)]
        sigma = self.log_sigma.detach().exp()
        means = losses.detach() / share  # NaN where a task is absent: an epoch's mean leaves it out
        for name, s, mean, seen in zip(names, sigma, means, share != 0, strict=True):
            step.log(f"sigma/{name}", torch.where(seen, s, torch.nan))
            step.log(f"weight/{name}", torch.where(seen, 1 / (2 * s**2), torch.nan))
            step.log(f"objective/{name}", mean)
