"""Optimizer steps: micro-batches forwards and backwards, then the update, or none where a gradient is not finite."""

from __future__ import annotations

from typing import Any

import lightning_fabric
import torch
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from torch import Tensor

from mtl_core.errors import MtlError
from mtl_core.hooks.relay import Hooks
from mtl_core.seeds import seed_torch
from mtl_core.step.look_ahead import Source
from mtl_core.tasks.precision import is_finite
from mtl_core.training.buffers import BufferGuard
from mtl_core.training.epoch import EpochMeans
from mtl_core.training.loaders import Loaders
from mtl_core.training.look_ahead import StepAhead
from mtl_core.training.optimizer import gradient_norm
from mtl_core.training.position import Position
from mtl_core.training.schedules import Schedule, steps_of_epoch
from mtl_core.training.session import Session
from mtl_core.training.wrapped import Wrapped


class OptimizerSteps:
    """Takes a run's optimizer steps, one for every ``accumulate`` micro-batches.

    :param wrapped: what the steps run and change
    :param position: of the run; it moves on with every micro-batch
    :param averages: receive what each micro-batch logs
    """

    def __init__(
        self,
        session: Session,
        fabric: lightning_fabric.Fabric,
        wrapped: Wrapped,
        data: Loaders,
        schedule: Schedule,
        position: Position,
        averages: EpochMeans,
    ) -> None:
        self._experiment = session.experiment
        self._hooks = session.hooks
        self._fabric = fabric
        self._wrapped = wrapped
        self._step = wrapped.step
        self._data = data
        self._schedule = schedule
        self._position = position
        self._averages = averages
        self._looks_ahead = _looks_ahead(session.hooks, fabric)
        self._parameters = [p for group in wrapped.raw_optimizer.param_groups for p in group["params"]]
        # all of them: batch norm, plugins and shapers remember in buffers, and a skipped step touches none
        self._guard = BufferGuard(list(self._step.buffers()))
        self._expected: Tensor | None = None
        self._ahead: StepAhead | None = None

    def train_batch(self, batch: Any) -> None:
        """One micro-batch; every ``accumulate``-th takes an optimizer step (the last of an epoch always does)."""
        position = self._position
        micro = position.next_micro_batch(self._experiment.accumulate, len(self._data.order))
        if micro.place == 0:
            self._guard.save()
            self._expected = self._expected_labels(micro.size)
            self._look_ahead(batch)
        # for dropout: from the number of the micro-batch, so that a resumed run draws what it would have drawn
        seed_torch(self._fabric.device, self._experiment.seed, "torch", position.micro_step, self._fabric.global_rank)
        # DDP adds up gradients over the ranks once per optimizer step, not once per micro-batch
        with self._fabric.no_backward_sync(self._wrapped.module, enabled=not micro.is_last):
            total, logged = self._wrapped.module(batch, position.micro_step, self._expected)
            # the mean over the micro-batches; the seam reads this divisor from its LossScale
            self._fabric.backward(total / micro.size if micro.size > 1 else total)
        # after every backward pass, not every step: each micro-batch goes through the seam
        self._step.seam.commit()
        skipped = self._take_step() if micro.is_last else None
        self._averages.add(logged | self._step.seam.logged | self._step.heads.shares(), skipped)
        position.after_batch()

    def _expected_labels(self, size: int) -> Tensor | None:
        """Samples of the coming step that carry each task, the mean over its micro-batches (K,): the mask knows them.

        None where a loss does not depend on them.
        """
        if size == 1 or self._experiment.normalize != "task":
            return None
        steps = range(self._position.batch, self._position.batch + size)
        counts = self._data.order.label_counts(self._data.labelled, steps)
        return counts.to(self._fabric.device, torch.float32, non_blocking=True) / size

    def _look_ahead(self, batch: Any) -> None:
        """Let plugins look at the network one step ahead; after the buffers were saved, so that a skip undoes it."""
        if not self._looks_ahead:
            return
        accumulate = self._experiment.accumulate
        # the number of the optimizer step in the run: a resumed run gets the second batches that it would have got
        turn = self._position.epoch * steps_of_epoch(len(self._data.order), accumulate)
        turn += self._position.batch // accumulate

        def second(source: Source) -> Any:
            return self._fabric.to_device(self._data.second.at(source, turn))

        self._ahead = StepAhead(self._step, batch, self._position.micro_step, self._wrapped.raw_optimizer, second)
        self._hooks.before_step(self._ahead)

    def _take_step(self) -> Tensor:
        """Optimizer step, unless a gradient is not finite: then nothing changes and the step is counted as skipped."""
        optimizer = self._wrapped.raw_optimizer
        # before the norm is taken: clip and the test for infinity are about true gradients
        self._fabric.strategy.precision.unscale_gradients(optimizer)
        norm = gradient_norm(self._parameters)
        bad = ~is_finite(norm)
        skipped = bad.float()
        # read by torch's fused kernels, so that a bad step is skipped without asking the device
        optimizer.found_inf = skipped  # type: ignore[attr-defined]
        if self._experiment.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self._experiment.clip, norm)
        self._wrapped.optimizer.step()
        self._wrapped.optimizer.zero_grad()
        # before buffers are put back: what a plugin notes in its buffers here is undone with a skipped step
        if self._ahead is not None:
            self._hooks.after_step(self._ahead)
        # always, by torch.where: an `if` would wait for the device in every step
        self._guard.restore(bad)
        if self._wrapped.ema is not None:
            self._wrapped.ema.update(skipped)
        self._schedule.after_step()
        return skipped


def _looks_ahead(hooks: Hooks, fabric: lightning_fabric.Fabric) -> bool:
    """Whether a plugin has ``before_step`` or ``after_step``, which need whole parameters on every device."""
    asked = hooks.has("before_step") or hooks.has("after_step")
    if asked and not isinstance(fabric.strategy, SingleDeviceStrategy | DDPStrategy):
        raise MtlError(
            f"strategy: {type(fabric.strategy).__name__} splits the parameters, and a plugin that looks a step ahead"
            ' needs all of them in one place; use strategy = "ddp" or "auto"'
        )
    return asked
