"""Learning rates over a run: a schedule by epochs or by steps, times a warm-up by steps."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim import lr_scheduler as schedules

from mtl_core.experiment import Experiment


class Schedule:
    """A schedule of torch's and a warm-up, each with a clock of its own; rates are their product.

    Step i of the warm-up, from 1, has i / ``warmup`` of the rate.

    :param steps: optimizer steps of an epoch
    """

    def __init__(self, experiment: Experiment, optimizer: Optimizer, steps: int) -> None:
        self.optimizer = optimizer
        self.by_step = experiment.schedule_by == "step"
        self.used: float = optimizer.param_groups[0]["lr"]
        """The main group's rate in the step that was taken last."""
        length = experiment.epochs * (steps if self.by_step else 1)
        self.main = _make_schedule(experiment, optimizer, length)
        self.warmup: schedules.LRScheduler | None = None
        if experiment.warmup > 1:
            # step 1 has 1/warmup of the rate already, so that warmup − 1 changes reach all of it
            self.warmup = schedules.LinearLR(optimizer, 1 / experiment.warmup, total_iters=experiment.warmup - 1)

    def after_step(self) -> None:
        """An optimizer step is done."""
        self.used = self.optimizer.param_groups[0]["lr"]
        if self.warmup is not None:
            self.warmup.step()
        if self.by_step:
            self.main.step()

    def step(self) -> None:
        """An epoch is done."""
        if not self.by_step:
            self.main.step()

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = self.main.state_dict()
        return state if self.warmup is None else {"main": state, "warmup": self.warmup.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.warmup is None:
            self.main.load_state_dict(state)
        else:
            self.main.load_state_dict(state["main"])
            self.warmup.load_state_dict(state["warmup"])


def _make_schedule(experiment: Experiment, optimizer: Optimizer, length: int) -> schedules.LRScheduler:
    """The learning rate over the run, without warm-up.

    :param length: how often it is stepped
    """
    if experiment.schedule == "step":
        milestones = [round(share * length) for share in experiment.drops]
        return schedules.MultiStepLR(optimizer, milestones, gamma=experiment.drop_factor)
    if experiment.schedule == "cosine":
        return schedules.CosineAnnealingLR(optimizer, T_max=length)
    if experiment.schedule == "poly":
        return schedules.PolynomialLR(optimizer, total_iters=length, power=0.9)
    # every other schedule multiplies the rate that is there, this one would take the warm-up back
    if experiment.warmup > 1:
        return schedules.ConstantLR(optimizer, factor=1.0, total_iters=0)
    return schedules.LambdaLR(optimizer, lambda epoch: 1.0)


def steps_of_epoch(batches: int, accumulate: int) -> int:
    """Optimizer steps of an epoch; the last one takes the batches that are left."""
    return math.ceil(batches / accumulate)
