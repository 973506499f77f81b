"""The training loop, on lightning-fabric: devices, precision and launch are Fabric's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import lightning_fabric

from mtl_core.console import Monitor, Watcher
from mtl_core.hooks.relay import Hooks
from mtl_core.run_folder import RunFolder
from mtl_core.training.allocator import keep_freed_memory
from mtl_core.training.checkpoint_writer import CheckpointWriter
from mtl_core.training.epoch import BestEpoch, EpochMeans, gathered
from mtl_core.training.health import Health
from mtl_core.training.loaders import open_loaders
from mtl_core.training.network import Network
from mtl_core.training.optimizer_steps import OptimizerSteps
from mtl_core.training.position import Position
from mtl_core.training.probe import Probe
from mtl_core.training.run_checkpoints import RunCheckpoints
from mtl_core.training.schedules import Schedule, steps_of_epoch
from mtl_core.training.session import Session
from mtl_core.training.stopping import Stopping, ask_observers
from mtl_core.training.validation import Validation
from mtl_core.training.wrapped import wrap

_OnEpochEnd = Callable[[Mapping[str, Any], bool], bool]
"""Called on rank 0 when an epoch's record is written, with it and whether the epoch is the best; whether to stop."""


class Trainer:
    """Trains one session, epoch by epoch.

    :param session: what :func:`mtl_core.training.session.prepare` built
    :param fabric: launched
    :param run: the folder that receives metrics and checkpoints
    :param observers: plugins that look at every run without being named in its experiment
    """

    def __init__(
        self, session: Session, fabric: lightning_fabric.Fabric, run: RunFolder, observers: Hooks | None = None
    ) -> None:
        self.session = session
        self.fabric = fabric
        self.run = run
        self.experiment = session.experiment
        self.observers = observers
        keep_freed_memory(fabric.device)
        self.wrapped = wrap(session, fabric)
        self.step = self.wrapped.step
        self.raw_optimizer = self.wrapped.raw_optimizer
        self.data = open_loaders(session, fabric)
        batches = len(self.data.order)
        self.step.planned = self.experiment.epochs * batches
        self.schedule = Schedule(
            self.experiment, self.raw_optimizer, steps_of_epoch(batches, self.experiment.accumulate)
        )
        self.stopping = Stopping(self.experiment, self.data.validation is not None)
        self.averages = EpochMeans(fabric.device, self.wrapped.group)
        self.selection = BestEpoch(session.tasks, self.experiment)
        self.position = Position()
        self.writer = CheckpointWriter()
        self.on_epoch_end: _OnEpochEnd = lambda record, best: False
        self.health = Health(self.experiment, session.hooks, fabric.is_global_zero)
        self.probe: Probe | None = None
        self.steps = OptimizerSteps(
            session, fabric, self.wrapped, self.data, self.schedule, self.position, self.averages
        )
        self.validation = Validation(session, fabric, self.wrapped, self.data, self.health)
        self.checkpoints = RunCheckpoints(
            session=session,
            fabric=fabric,
            run=run,
            writer=self.writer,
            wrapped=self.wrapped,
            schedule=self.schedule,
            averages=self.averages,
            selection=self.selection,
            stopping=self.stopping,
            position=self.position,
            batches=batches,
        )

    @property
    def evaluated(self) -> Network:
        """The network that validation, results and predictions are made with."""
        return self.wrapped.evaluated

    def fit(
        self,
        watch: Watcher = lambda epoch, batch, batches: None,
        on_epoch_end: _OnEpochEnd = lambda record, best: False,
    ) -> None:
        """Train the epochs that are left, or until a plugin or ``patience`` ends the run."""
        self.on_epoch_end = on_epoch_end
        if not self.data.has_labels:
            self.health.no_labels(len(self.data.order.indices))
        if set(self.experiment.freeze) >= set(self.session.tasks.names):
            self.health.no_heads()
        with self.writer:
            while self.position.epoch < self.experiment.epochs and not self.stopping.now:
                started = time.monotonic()
                self.train_epoch(watch)
                self.end_epoch(time.monotonic() - started)

    def train_epoch(self, watch: Watcher) -> None:
        """The batches of an epoch that are left."""
        self.wrapped.module.train()
        position = self.position
        order = self.data.order
        order.go(position.epoch, position.batch)
        for batch in self.data.training:
            self.train_batch(batch)
            watch(position.epoch, position.batch, len(order))
            if isinstance(watch, Monitor) and watch.wants_losses:
                watch.show_losses(self.averages.so_far())
            # not after the last batch: the end of the epoch saves anyway
            if self.checkpoints.is_due() and position.batch < len(order):
                self.checkpoints.begin_save()

    def train_batch(self, batch: Any) -> None:
        """One micro-batch; every ``accumulate``-th takes an optimizer step (the last of an epoch always does)."""
        self.steps.train_batch(batch)

    def end_epoch(self, seconds: float) -> None:
        """Settle batch norm's statistics, validate, log, choose the best, checkpoint."""
        # validation may fork its workers now: one that is forked while the writer holds a lock would wait for ever
        self.writer.wait()
        record = self._measure()
        asked = self._asked_to_end(record)
        # read before the schedule moves on: the rate that this epoch trained with
        rates = {"learning_rate": self.schedule.used}
        self.schedule.step()
        best = self.selection.better(record)
        self.stopping.note(best, asked)
        self.position.after_epoch()
        about = {"event": "epoch", "epoch": self.position.epoch - 1, "step": self.position.micro_step}
        self._write_record(about | {"seconds": round(seconds, 3)} | rates | record, best)
        self.checkpoints.begin_save(best)

    def _measure(self) -> dict[str, float]:
        """The epoch's means, then what the network gives on validation data and to a probe."""
        epoch = self.position.epoch
        record = self.averages.take()
        # before validation, so that it uses the statistics that the checkpoint will hold
        self.validation.settle_statistics(epoch)
        record |= self.validation.measure(epoch, record)
        record |= {} if self.probe is None else self.probe.measure()
        self.health.look_at(epoch, record, self.step.terms)
        return record

    def _asked_to_end(self, record: dict[str, float]) -> bool:
        """Whether a plugin, or an observer, of any rank wants the run to end with this epoch."""
        asked = self.session.hooks.after_epoch(self.position.epoch, record, self.run.folder)
        if self.fabric.is_global_zero:
            asked |= ask_observers(self.observers, self.position.epoch, record, self.run)
        return any(gathered(asked, self.wrapped.group))

    def _write_record(self, line: dict[str, Any], best: bool) -> None:
        """Append the epoch's line to the history, and stop the run if ``on_epoch_end`` asks for it."""
        ends = {"stopped": self.stopping.reason} if self.stopping.now else {}
        if self.fabric.is_global_zero:
            self.stopping.report(self.run, self.position.epoch)
            self.run.append(line | ends)
        # only rank 0 asks, and all ranks have to end with the same epoch
        if self.fabric.broadcast(self.fabric.is_global_zero and self.on_epoch_end(line | ends, best)):
            self.stopping.note(True, asked=True)
            if self.fabric.is_global_zero and not ends:
                # the line is written again, with the reason
                self.run.cut(self.position.epoch - 1)
                self.run.append(line | {"stopped": self.stopping.reason})

    def state(self) -> dict[str, Any]:
        """Everything that training changes, as tensors and plain types; a collective: every rank must call it."""
        return self.checkpoints.state()

    def save(self, best: bool = False) -> None:
        """Write ``last.ckpt``, and before it ``best.ckpt`` if this is the best epoch so far."""
        self.checkpoints.begin_save(best)
        self.writer.wait()

    def resume(self) -> None:
        """Go on where ``last.ckpt`` was written."""
        self.checkpoints.resume()
