"""The training loop, on lightning-fabric: devices, precision and launch are Fabric's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import lightning_fabric
import torch
import torch.distributed as dist
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from torch import Tensor

from mtl_core.console import Monitor, Watcher
from mtl_core.errors import MtlError
from mtl_core.hooks.relay import Hooks
from mtl_core.run_folder import RunFolder
from mtl_core.seeds import generator_for, seed_torch
from mtl_core.step.look_ahead import Source
from mtl_core.training.batch_norm import batch_norms, reestimate
from mtl_core.training.buffers import BufferGuard, broadcast_buffers
from mtl_core.training.checkpoint import check_optimizer_state, count_in, load_checkpoint, reading, restore
from mtl_core.training.checkpoint_writer import CheckpointWriter
from mtl_core.training.ema import Average
from mtl_core.training.epoch import BestEpoch, EpochMeans, gathered
from mtl_core.training.evaluation import evaluate
from mtl_core.training.health import Health
from mtl_core.training.loaders import open_loaders
from mtl_core.training.look_ahead import StepAhead
from mtl_core.training.network import Network
from mtl_core.training.optimizer import gradient_norm, make_optimizer
from mtl_core.training.plugin_state import stateful
from mtl_core.training.probe import Probe
from mtl_core.training.saved_tasks import tasks_to_plain
from mtl_core.training.schedules import Schedule, steps_of_epoch
from mtl_core.training.session import Session
from mtl_core.training.step import TrainingStep
from mtl_core.training.stopping import Stopping, told

_Ended = Callable[[Mapping[str, Any], bool], bool]
"""Called on rank 0 when an epoch's record is written, with it and whether the epoch is the best; whether to stop."""


@attrs.define
class _Position:
    """Where a run stands, between two micro-batches.

    :param epoch: the one that is under way, from 0
    :param batch: micro-batches of it that are done
    :param micro_step: micro-batches that are done since the run began
    :param saved: ``micro_step`` of the last checkpoint
    """

    epoch: int = 0
    batch: int = 0
    micro_step: int = 0
    saved: int = 0


class _MicroBatch(NamedTuple):
    """Which of the micro-batches of one optimizer step a batch is."""

    place: int
    size: int

    @property
    def is_last(self) -> bool:
        return self.place + 1 == self.size


class Trainer:
    """Trains one session; everything that evolves is in its ``state``.

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
        self.group: dist.ProcessGroup | None = None
        if fabric.world_size > 1:
            # a group of our own: DDP sends its buckets while the seam's sums are under way, and the two must not mix
            self.group = dist.new_group()  # type: ignore[assignment]
        self.step = TrainingStep(
            session.network,
            session.hooks,
            normalize=self.experiment.normalize,
            views=session.hooks.count_views(),
            seed=self.experiment.seed,
            rank=fabric.global_rank,
            group=self.group,
            level=self.experiment.level,
        )
        self._set_up()
        self.data = open_loaders(session, fabric)
        steps = steps_of_epoch(len(self.data.order), self.experiment.accumulate)
        self.schedule = Schedule(self.experiment, self.raw_optimizer, steps)
        self.stopping = Stopping(self.experiment, self.data.validation is not None)
        self.looks_ahead = _looks_ahead(session.hooks, fabric)
        self.averages = EpochMeans(fabric.device, self.group)
        self.selection = BestEpoch(session.tasks, self.experiment)
        self.position = _Position()
        self.writer = CheckpointWriter()
        self.ended: _Ended = lambda record, best: False
        self.health = Health(self.experiment, session.hooks, fabric.is_global_zero)
        self.probe: Probe | None = None

    def _set_up(self) -> None:
        """Hand module and optimizer to Fabric."""
        experiment = self.experiment
        network = self.step.network
        if experiment.channels_last:
            self.step.to(memory_format=torch.channels_last)
        if experiment.batch_norm == "frozen":
            network.fix(*batch_norms(network))
        if experiment.compile:
            if experiment.level == "parameters" and self.step.has_seam:
                raise MtlError(
                    'level = "parameters" goes through the encoder once per task, which a compiled encoder does not'
                    " allow; use compile = false"
                )
            network.compile_parts()
        self.step.to(self.fabric.device)
        self.raw_optimizer = make_optimizer(experiment, self.step, self.session.hooks)
        # after compile, channels_last and the move to the device: DDP takes parameters as it finds them
        self.module, self.optimizer = self.fabric.setup(self.step, self.raw_optimizer)
        self.parameters = [p for group in self.raw_optimizer.param_groups for p in group["params"]]
        # all of them: batch norm, plugins and shapers remember in buffers, and a skipped step touches none
        self.guard = BufferGuard(list(self.step.buffers()))
        self.ema = None if experiment.ema is None else Average(network, experiment.ema)

    @property
    def evaluated(self) -> Network:
        """The network that validation, results and predictions are made with."""
        return self.step.network if self.ema is None else self.ema.network

    def fit(
        self,
        watch: Watcher = lambda epoch, batch, batches: None,
        ended: _Ended = lambda record, best: False,
    ) -> None:
        """Train the epochs that are left, or until somebody asks to stop."""
        self.ended = ended
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
        self.module.train()
        position = self.position
        order = self.data.order
        order.go(position.epoch, position.batch)
        for batch in self.data.training:
            self.train_batch(batch)
            watch(position.epoch, position.batch, len(order))
            if isinstance(watch, Monitor) and watch.wants_losses:
                watch.show_losses(self.averages.so_far())
            if self._is_due() and position.batch < len(order):
                self._begin_save()

    def train_batch(self, batch: Any) -> None:
        """One micro-batch; every ``accumulate``-th takes an optimizer step (the last of an epoch always does)."""
        position = self.position
        micro = self._micro_batch()
        if micro.place == 0:
            self.guard.save()
            self.expected = self._expected_labels(micro.size)
            self._look_ahead(batch)
        # for dropout: from the number of the micro-batch, so that a resumed run draws what it would have drawn
        seed_torch(self.fabric.device, self.experiment.seed, "torch", position.micro_step, self.fabric.global_rank)
        # DDP adds up gradients over the ranks once per optimizer step, not once per micro-batch
        with self.fabric.no_backward_sync(self.module, enabled=not micro.is_last):
            total, logged = self.module(batch, position.micro_step, self.expected)
            # the mean over the micro-batches; the seam reads this divisor from its LossScale
            self.fabric.backward(total / micro.size)
        self.step.arrival.commit()
        skipped = self._take_step() if micro.is_last else None
        self.averages.add(logged | self.step.arrival.logged | self.step.heads.shares(), skipped)
        position.batch += 1
        position.micro_step += 1

    def _micro_batch(self) -> _MicroBatch:
        """Where the next micro-batch stands among those of its optimizer step."""
        accumulate = self.experiment.accumulate
        place = self.position.batch % accumulate
        # an epoch may end with fewer micro-batches than `accumulate`
        left = len(self.data.order) - self.position.batch + place
        return _MicroBatch(place, max(place + 1, min(accumulate, left)))

    def _expected_labels(self, size: int) -> Tensor | None:
        """Samples of the coming step that carry each task, the mean over its micro-batches (K,): the mask knows them.

        None where a loss does not depend on them.
        """
        if size == 1 or self.experiment.normalize != "task":
            return None
        steps = range(self.position.batch, self.position.batch + size)
        counts = self.data.order.label_counts(self.data.labelled, steps)
        return counts.to(self.fabric.device, torch.float32, non_blocking=True) / size

    def _look_ahead(self, batch: Any) -> None:
        """Let plugins look at the network one step ahead; after the buffers were saved, so that a skip undoes it."""
        if not self.looks_ahead:
            return
        steps = math.ceil(len(self.data.order) / self.experiment.accumulate)
        turn = self.position.epoch * steps + self.position.batch // self.experiment.accumulate

        def second(source: Source) -> Any:
            return self.fabric.to_device(self.data.second.at(source, turn))

        self.ahead = StepAhead(self.step, batch, self.position.micro_step, self.raw_optimizer, second)
        self.session.hooks.before_step(self.ahead)

    def _take_step(self) -> Tensor:
        """Optimizer step, unless a gradient is not finite: then nothing changes and the step is counted as skipped."""
        # before the norm is taken: clip and the test for infinity are about true gradients
        self.fabric.strategy.precision.unscale_gradients(self.raw_optimizer)
        norm = gradient_norm(self.parameters)
        skipped = (~norm.isfinite()).float()
        # read by torch's fused kernels, so that a bad step is skipped without asking the device
        self.raw_optimizer.found_inf = skipped  # type: ignore[attr-defined]
        if self.experiment.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.experiment.clip, norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.looks_ahead:
            self.session.hooks.after_step(self.ahead)
        # always, by torch.where: an `if` would wait for the device in every step
        self.guard.restore(skipped.bool())
        if self.ema is not None:
            self.ema.update(skipped)
        self.schedule.after_step()
        return skipped

    def end_epoch(self, seconds: float) -> None:
        """Settle batch norm's statistics, validate, log, choose the best, checkpoint."""
        # validation may fork its workers now: one that is forked while the writer holds a lock would wait for ever
        self.writer.wait()
        position = self.position
        record = self.averages.take()
        self._settle_statistics()
        record |= self._validate(record)
        record |= {} if self.probe is None else self.probe.measure()
        self.health.look_at(position.epoch, record)
        asked = self._asked_to_end(record)
        # read before the schedule moves on: the rate that this epoch trained with
        rates = {"learning_rate": self.schedule.used}
        self.schedule.step()
        best = self.selection.better(record)
        self.stopping.note(best, asked)
        ends = {"stopped": self.stopping.reason} if self.stopping.now else {}
        position.epoch += 1
        position.batch = 0
        about = {"event": "epoch", "epoch": position.epoch - 1, "step": position.micro_step}
        line: dict[str, Any] = about | {"seconds": round(seconds, 3)} | rates | record
        if self.fabric.is_global_zero:
            self.stopping.tell(self.run, position.epoch)
            self.run.append(line | ends)
        if self.fabric.broadcast(self.fabric.is_global_zero and self.ended(line | ends, best)):
            self.stopping.note(True, asked=True)
            if self.fabric.is_global_zero and not ends:
                self.run.cut(position.epoch - 1)
                self.run.append(line | {"stopped": self.stopping.reason})
        self._begin_save(best)

    def _asked_to_end(self, record: dict[str, float]) -> bool:
        """Whether a plugin, or an observer, of any rank wants the run to end with this epoch."""
        asked = self.session.hooks.after_epoch(self.position.epoch, record, self.run.folder)
        if self.fabric.is_global_zero:
            asked |= told(self.observers, self.position.epoch, record, self.run)
        return any(gathered(asked, self.group))

    def _settle_statistics(self) -> None:
        """Give every rank the statistics that the checkpoint will hold, re-estimated if the experiment says so."""
        broadcast_buffers(list(self.step.buffers()), self.group)
        if self.ema is not None:
            broadcast_buffers(list(self.ema.network.buffers()), self.group)
        if self.experiment.batch_norm == "reestimated" and batch_norms(self.evaluated):
            with self.fabric.autocast():
                reestimate(self.evaluated, self._training_images(), self.group)

    def _training_images(self) -> Iterator[Tensor]:
        """Images of the epoch's first batches, (V·B, 3, H, W), as the network saw them in training."""
        epoch = self.position.epoch
        rank = self.fabric.global_rank
        seed = self.experiment.seed
        seed_torch(self.fabric.device, seed, "batch norm", epoch, rank)
        self.data.order.go(epoch)
        for number, batch in enumerate(islice(self.data.training, self.experiment.batch_norm_batches)):
            generator = generator_for(seed, "batch norm", epoch, number, rank)
            images, _ = self.step.views_of(batch.images, generator)
            yield images.flatten(0, 1)

    def _validate(self, record: dict[str, float]) -> dict[str, float]:
        """Validation metrics and losses, as ``metrics.jsonl`` names them."""
        if self.data.validation is None:
            return {}
        network = self.evaluated
        data = self.data.validation
        device = self.fabric.device
        found = evaluate(network, data, device, self.fabric.autocast)
        trained = {name: record.get(f"train/loss/{name}", math.nan) for name in self.session.tasks.names}
        if self._compares_statistics() and self.health.is_suspicious(trained, found.losses):
            several = (batch for batch in data if len(batch.images) > 1)  # one sample alone has no variance
            by_batch = evaluate(network, several, device, self.fabric.autocast, by_batch=True)
            self.health.look_at_statistics(by_batch.losses, found.losses)
        metrics = {f"val/{name}": value for name, value in found.metrics.items()}
        return metrics | {f"validation/loss/{name}": value for name, value in found.losses.items()}

    def _compares_statistics(self) -> bool:
        """At the epochs 1, 2, 4, 8 … and the last: the comparison takes a second pass over the validation data."""
        done = self.position.epoch + 1
        # a power of two has one bit set
        now = done & (done - 1) == 0 or done == self.experiment.epochs
        return now and bool(batch_norms(self.step.network))

    def state(self) -> dict[str, Any]:
        """Everything that evolves, as tensors and plain types; every rank must ask for it."""
        return {
            "step": self.step.state_dict(),
            "plugins": {n: p.state_dict() for n, p in stateful(self.session.hooks).items()},
            "optimizer": self.raw_optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "averages": gathered(self.averages.state_dict(), self.group),
            "selection": self.selection.state_dict(),
            "stopping": self.stopping.state_dict(),
            **self._average(),
            "epoch": self.position.epoch,
            "batch": self.position.batch,
            "number": self.position.micro_step,
            "world": self.fabric.world_size,
            **self.identity(),
        }

    def _average(self) -> dict[str, Any]:
        return {} if self.ema is None else {"ema": self.ema.state_dict()}

    def identity(self) -> dict[str, Any]:
        """What prediction needs besides weights."""
        from mtl_core.settings.toml_file import dump_experiment

        return {
            "tasks": tasks_to_plain(self.session.tasks),
            "image_size": list(self.session.image_size),
            "experiment": dump_experiment(self.experiment),
        }

    def save(self, best: bool = False) -> None:
        """Write ``last.ckpt``, and before it ``best.ckpt`` if this is the best epoch so far."""
        self._begin_save(best)
        self.writer.wait()

    def _is_due(self) -> bool:
        """Whether a checkpoint within the epoch is due; only between optimizer steps, where no gradient is kept."""
        every = self.experiment.checkpoint_steps
        between = self.position.batch % self.experiment.accumulate == 0
        return every is not None and between and self.position.micro_step - self.position.saved >= every

    def _begin_save(self, best: bool = False) -> None:
        self.position.saved = self.position.micro_step
        state = self.state()
        if not self.fabric.is_global_zero:
            return
        files = {self.run.checkpoint("last"): state}
        if best:
            # the best one first: a run that is killed in between does the epoch again, and finds it again
            weights = {"step": state["step"], "epoch": self.position.epoch, **self._average(), **self.identity()}
            files = {self.run.checkpoint("best"): weights, **files}
        self.writer.write(files)

    def resume(self) -> None:
        """Go on where ``last.ckpt`` was written."""
        path = self.run.checkpoint("last")
        state = load_checkpoint(path, self.fabric.device)
        with reading(path):
            self._load(path, state)
        if self.fabric.is_global_zero:
            self.run.cut(self.position.epoch)

    def _load(self, path: Path, state: Mapping[str, Any]) -> None:
        world = count_in(state, "world")
        if world != self.fabric.world_size:
            raise MtlError(
                f"{path}: written by {world} process(es), resumed by {self.fabric.world_size};"
                " use the same number of devices, or start a new run"
            )
        restore(path, self.step, state["step"])
        for name, plugin in stateful(self.session.hooks).items():
            plugin.load_state_dict(state["plugins"][name])
        check_optimizer_state(path, state["optimizer"], self.raw_optimizer)
        self.raw_optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.averages.load_state_dict(state["averages"][self.fabric.global_rank])
        self.selection.load_state_dict(state["selection"])
        self.stopping.load_state_dict(state.get("stopping", {}))
        if self.ema is not None:
            restore(path, self.ema.network, state["ema"]["network"])
            self.ema.load_state_dict(state["ema"])
        batch, number = count_in(state, "batch", len(self.data.order)), count_in(state, "number")
        self.position = _Position(count_in(state, "epoch"), batch, number, number)


def _looks_ahead(hooks: Hooks, fabric: lightning_fabric.Fabric) -> bool:
    """Whether a plugin has ``before_step`` or ``after_step``, which need whole parameters on every device."""
    asked = hooks.has("before_step") or hooks.has("after_step")
    if asked and not isinstance(fabric.strategy, SingleDeviceStrategy | DDPStrategy):
        raise MtlError(
            f"strategy: {type(fabric.strategy).__name__} splits the parameters, and a plugin that looks a step ahead"
            ' needs all of them in one place; use strategy = "ddp" or "auto"'
        )
    return asked
