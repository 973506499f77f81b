"""The training loop, on lightning-fabric: devices, precision and launch are Fabric's."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import lightning_fabric
import torch
import torch.distributed as dist
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from torch import Tensor

from mtl_core.console import Watcher
from mtl_core.data.datasets import BlankedDataset, Joined
from mtl_core.errors import MtlError
from mtl_core.hooks.relay import Hooks
from mtl_core.run_folder import RunFolder
from mtl_core.seeds import seed_torch
from mtl_core.step.look_ahead import Source
from mtl_core.tasks.tasks import to_plain
from mtl_core.training.buffers import BufferGuard
from mtl_core.training.checkpoint import load_checkpoint, restore, save_checkpoint
from mtl_core.training.epoch import BestEpoch, EpochMeans
from mtl_core.training.evaluation import evaluate
from mtl_core.training.loader import (
    BatchOrder,
    Extra,
    TrainingData,
    evaluation_loader,
    split_validation,
    training_loader,
)
from mtl_core.training.look_ahead import StepAhead
from mtl_core.training.optimizer import gradient_norm, make_optimizer, make_schedule
from mtl_core.training.second_batches import SecondBatches
from mtl_core.training.session import Session
from mtl_core.training.step import TrainingStep

log = logging.getLogger(__name__)


class Trainer:
    """Trains one session; everything that evolves is in its ``state``.

    :param session: what :func:`mtl_core.session.prepare` built
    :param fabric: launched
    :param run: the folder that receives metrics and checkpoints
    """

    def __init__(self, session: Session, fabric: lightning_fabric.Fabric, run: RunFolder) -> None:
        self.session, self.fabric, self.run, self.experiment = session, fabric, run, session.experiment
        self.group: dist.ProcessGroup | None = None
        if fabric.world_size > 1:
            self.group = dist.new_group()  # type: ignore[assignment]
        self.step = TrainingStep(
            session.network,
            session.hooks,
            normalize=self.experiment.normalize,
            views=views(session.hooks),
            seed=self.experiment.seed,
            rank=fabric.global_rank,
            group=self.group,
            level=self.experiment.level,
        )
        self.set_up()
        self.load_data()
        self.averages, self.selection = EpochMeans(fabric.device, self.group), BestEpoch(session.tasks, self.experiment)
        self.epoch, self.batch, self.number, self.saved = 0, 0, 0, 0

    def set_up(self) -> None:
        """Hand module and optimizer to Fabric."""
        if self.experiment.channels_last:
            self.step.to(memory_format=torch.channels_last)
        if self.experiment.compile:
            if self.experiment.level == "parameters" and self.step.has_seam:
                raise MtlError(
                    'level = "parameters" goes through the encoder once per task, which a compiled encoder does not'
                    " allow; use compile = false"
                )
            self.step.network.compile_parts()
        self.step.to(self.fabric.device)
        self.raw_optimizer = make_optimizer(self.experiment, self.step, self.session.hooks)
        self.schedule = make_schedule(self.experiment, self.raw_optimizer)
        self.module, self.optimizer = self.fabric.setup(self.step, self.raw_optimizer)
        self.parameters = [p for group in self.raw_optimizer.param_groups for p in group["params"]]
        self.guard = BufferGuard(list(self.step.buffers()))

    def load_data(self) -> None:
        session, fabric = self.session, self.fabric
        train, held = split_validation(len(session.dataset), self.experiment.validation, self.experiment.seed)
        train, extras = sources(session, train)
        self.order = BatchOrder(
            train, self.experiment.batch_size, self.experiment.seed, fabric.global_rank, fabric.world_size, extras
        )
        parts = [BlankedDataset(session.dataset, session.labelled), *(extra for extra, _ in session.extras)]
        data = TrainingData(Joined(parts), session.hooks, self.experiment.seed)
        loader = training_loader(data, self.order, self.experiment.workers, fabric.device.type == "cuda")
        self.loader = fabric.setup_dataloaders(loader, use_distributed_sampler=False)
        self.validation = evaluation_loader(
            session.given.dataset, session.given.labelled, held, self.experiment.batch_size,
            fabric.global_rank, fabric.world_size,
        )  # fmt: skip
        self.has_validation = bool(held)
        self.looks_ahead = looks_ahead(session.hooks, fabric)
        self.second = SecondBatches(
            data, {"training": train, "validation": held}, self.experiment.batch_size, self.experiment.seed,
            self.experiment.workers, fabric.global_rank, fabric.world_size,
        )  # fmt: skip

    def fit(self, watch: Watcher = lambda epoch, batch, batches: None) -> None:
        """Train the epochs that are left."""
        while self.epoch < self.experiment.epochs:
            started = time.monotonic()
            self.train_epoch(watch)
            self.end_epoch(time.monotonic() - started)

    def train_epoch(self, watch: Watcher) -> None:
        self.module.train()
        self.order.go(self.epoch, self.batch)
        for batch in self.loader:
            self.train_batch(batch)
            watch(self.epoch, self.batch, len(self.order))
            if self.due() and self.batch < len(self.order):
                self.save()

    def due(self) -> bool:
        """Whether a checkpoint within the epoch is due; only between optimizer steps, where no gradient is kept."""
        every = self.experiment.checkpoint_steps
        between = self.batch % self.experiment.accumulate == 0
        return every is not None and between and self.number - self.saved >= every

    def train_batch(self, batch: Any) -> None:
        """One micro-batch; every ``accumulate``-th takes an optimizer step (the last of an epoch always does)."""
        place, size = self.window()
        takes_step = place + 1 == size
        if place == 0:
            self.guard.save()
            self.look_ahead(batch)
        seed_torch(self.fabric.device, self.experiment.seed, "torch", self.number, self.fabric.global_rank)
        with self.fabric.no_backward_sync(self.module, enabled=not takes_step):
            total, logged = self.module(batch, self.number)
            self.fabric.backward(total / size)
        self.step.arrival.commit()
        skipped = self.take_step() if takes_step else None
        self.averages.add(logged | self.step.arrival.logged | self.step.heads.shares(), skipped)
        self.batch, self.number = self.batch + 1, self.number + 1

    def look_ahead(self, batch: Any) -> None:
        """Let plugins look at the network one step ahead; after the buffers were saved, so that a skip undoes it."""
        if not self.looks_ahead:
            return
        size = self.experiment.accumulate
        turn = self.epoch * math.ceil(len(self.order) / size) + self.batch // size

        def second(source: Source) -> Any:
            return self.fabric.to_device(self.second.at(source, turn))

        self.ahead = StepAhead(self.step, batch, self.number, self.raw_optimizer, second)
        self.session.hooks.before_step(self.ahead)

    def window(self) -> tuple[int, int]:
        """Where the next micro-batch stands among those of its optimizer step, and how many these are."""
        place = self.batch % self.experiment.accumulate
        left = len(self.order) - self.batch + place
        return place, max(place + 1, min(self.experiment.accumulate, left))

    def take_step(self) -> Tensor:
        """Optimizer step, unless a gradient is not finite: then nothing changes and the step is counted as skipped."""
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
        self.guard.restore(skipped.bool())
        return skipped

    def end_epoch(self, seconds: float) -> None:
        """Validate, log, choose the best, checkpoint."""
        record = self.averages.take()
        if self.has_validation:
            found = evaluate(self.step.network, self.validation, self.fabric.device, self.fabric.autocast)
            record |= {f"val/{name}": value for name, value in found.items()}
        self.session.hooks.after_epoch(self.epoch, record)
        rates = {"learning_rate": self.raw_optimizer.param_groups[0]["lr"]}
        self.schedule.step()
        best = self.selection.better(record)
        self.epoch, self.batch = self.epoch + 1, 0
        if self.fabric.is_global_zero:
            about = {"event": "epoch", "epoch": self.epoch - 1, "step": self.number, "seconds": round(seconds, 3)}
            self.run.append(about | rates | record)
        self.save(best)

    def state(self) -> dict[str, Any]:
        """Everything that evolves, as tensors and plain types."""
        return {
            "step": self.step.state_dict(),
            "plugins": {n: p.state_dict() for n, p in stateful(self.session.hooks).items()},
            "optimizer": self.raw_optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "averages": self.averages.state_dict(),
            "selection": self.selection.state_dict(),
            "epoch": self.epoch,
            "batch": self.batch,
            "number": self.number,
            "world": self.fabric.world_size,
            **self.identity(),
        }

    def identity(self) -> dict[str, Any]:
        """What prediction needs besides weights."""
        from mtl_core.settings.toml_file import dump_experiment

        return {
            "tasks": to_plain(self.session.tasks),
            "image_size": list(self.session.image_size),
            "experiment": dump_experiment(self.experiment),
        }

    def save(self, best: bool = False) -> None:
        self.saved = self.number
        if self.fabric.is_global_zero:
            state = self.state()
            save_checkpoint(self.run.checkpoint("last"), state)
            if best:
                weights = {"step": state["step"], "epoch": self.epoch, **self.identity()}
                save_checkpoint(self.run.checkpoint("best"), weights)
        self.fabric.barrier()

    def resume(self) -> None:
        """Go on where ``last.ckpt`` was written."""
        path = self.run.checkpoint("last")
        state = load_checkpoint(path, self.fabric.device)
        if state["world"] != self.fabric.world_size:
            raise MtlError(
                f"{path}: written by {state['world']} process(es), resumed by {self.fabric.world_size};"
                " use the same number of devices, or start a new run"
            )
        restore(path, self.step, state["step"])
        for name, plugin in stateful(self.session.hooks).items():
            plugin.load_state_dict(state["plugins"][name])
        self.raw_optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.averages.load_state_dict(state["averages"])
        self.selection.load_state_dict(state["selection"])
        self.epoch, self.batch, self.number = state["epoch"], state["batch"], state["number"]
        self.saved = self.number
        if self.fabric.is_global_zero:
            self.run.cut(self.epoch)


def sources(session: Session, train: list[int]) -> tuple[list[int], list[Extra]]:
    """What an epoch goes through, and what every batch has a fixed number of beside it."""
    experiment, extras = session.experiment, list[Extra]()
    bare = [place for place in train if not session.labelled[place].any()]
    if experiment.drop_unlabelled or experiment.unlabelled_per_batch is not None:
        train = [place for place in train if session.labelled[place].any()]
    if experiment.unlabelled_per_batch and bare and not experiment.drop_unlabelled:
        extras.append(Extra(bare, experiment.unlabelled_per_batch))
    first = len(session.dataset)
    for data, per_batch in session.extras:
        extras.append(Extra(range(first, first + len(data)), per_batch))
        first += len(data)
    return train, extras


def looks_ahead(hooks: Hooks, fabric: lightning_fabric.Fabric) -> bool:
    """Whether a plugin has ``before_step`` or ``after_step``, which need whole parameters on every device."""
    asked = hooks.has("before_step") or hooks.has("after_step")
    if asked and not isinstance(fabric.strategy, SingleDeviceStrategy | DDPStrategy):
        raise MtlError(
            f"strategy: {type(fabric.strategy).__name__} splits the parameters, and a plugin that looks a step ahead"
            ' needs all of them in one place; use strategy = "ddp" or "auto"'
        )
    return asked


def views(hooks: Hooks) -> int:
    """How many views the plugins ask for."""
    return max([1, *(getattr(plugin, "views", 1) for plugin in hooks.plugins.values())])


def stateful(hooks: Hooks) -> dict[str, Any]:
    """Plugins that are no modules and keep state of their own."""
    return {
        name: plugin
        for name, plugin in hooks.plugins.items()
        if hasattr(plugin, "load_state_dict") and not isinstance(plugin, torch.nn.Module)
    }
