"""The checkpoints of a run: when they are written, what they hold, and how a run goes on from one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import lightning_fabric

from mtl_core.errors import MtlError
from mtl_core.run_folder import RunFolder
from mtl_core.settings.toml_file import dump_experiment
from mtl_core.training.checkpoint import check_optimizer_state, count_in, load_checkpoint, reading, restore
from mtl_core.training.checkpoint_writer import CheckpointWriter
from mtl_core.training.epoch import BestEpoch, EpochMeans, gathered
from mtl_core.training.plugin_state import stateful
from mtl_core.training.position import Position
from mtl_core.training.saved_tasks import tasks_to_plain
from mtl_core.training.schedules import Schedule
from mtl_core.training.session import Session
from mtl_core.training.stopping import Stopping
from mtl_core.training.wrapped import Wrapped


@attrs.frozen(eq=False)
class RunCheckpoints:
    """Saves everything of a run that changes while it trains, and restores it.

    :param batches: micro-batches of an epoch
    """

    _session: Session
    _fabric: lightning_fabric.Fabric
    _run: RunFolder
    _writer: CheckpointWriter
    _wrapped: Wrapped
    _schedule: Schedule
    _averages: EpochMeans
    _selection: BestEpoch
    _stopping: Stopping
    _position: Position
    _batches: int

    def is_due(self) -> bool:
        """Whether a checkpoint within the epoch is due; only between optimizer steps, where no gradient is kept."""
        experiment = self._session.experiment
        every = experiment.checkpoint_steps
        between = self._position.batch % experiment.accumulate == 0
        return every is not None and between and self._position.micro_step - self._position.saved >= every

    def begin_save(self, best: bool = False) -> None:
        """Hand ``last.ckpt`` to the writer, and before it ``best.ckpt`` if this is the best epoch so far."""
        self._position.saved = self._position.micro_step
        # on every rank: the state gathers the ranks' averages
        state = self.state()
        if not self._fabric.is_global_zero:
            return
        files = {self._run.checkpoint("last"): state}
        if best:
            # the best one first: a run that is killed in between does the epoch again, and finds it again
            # no optimizer state: nothing resumes from the best epoch
            weights = {"step": state["step"], "epoch": self._position.epoch, **self._average(), **self._identity()}
            files = {self._run.checkpoint("best"): weights, **files}
        self._writer.write(files)

    def state(self) -> dict[str, Any]:
        """Everything that training changes, as tensors and plain types; a collective: every rank must call it."""
        return {
            "step": self._wrapped.step.state_dict(),
            "plugins": {n: p.state_dict() for n, p in stateful(self._session.hooks).items()},
            "optimizer": self._wrapped.raw_optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "precision": self._fabric.strategy.precision.state_dict(),
            # of all ranks in their order: each has sums of its own, and only rank 0 writes
            "averages": gathered(self._averages.state_dict(), self._wrapped.group),
            "selection": self._selection.state_dict(),
            "stopping": self._stopping.state_dict(),
            **self._average(),
            "epoch": self._position.epoch,
            "batch": self._position.batch,
            "number": self._position.micro_step,
            "world": self._fabric.world_size,
            **self._identity(),
        }

    def _average(self) -> dict[str, Any]:
        ema = self._wrapped.ema
        return {} if ema is None else {"ema": ema.state_dict()}

    def _identity(self) -> dict[str, Any]:
        """What prediction needs besides weights."""
        return {
            "tasks": tasks_to_plain(self._session.tasks),
            "image_size": list(self._session.image_size),
            "experiment": dump_experiment(self._session.experiment),
        }

    def resume(self) -> None:
        """Restore what ``last.ckpt`` holds, and drop what the run's history has of later epochs."""
        path = self._run.checkpoint("last")
        state = load_checkpoint(path, self._fabric.device)
        with reading(path):
            self._load(path, state)
        if self._fabric.is_global_zero:
            self._run.cut(self._position.epoch)

    def _load(self, path: Path, state: Mapping[str, Any]) -> None:
        self._check_world(path, count_in(state, "world"))
        restore(path, self._wrapped.step, state["step"])
        for name, plugin in stateful(self._session.hooks).items():
            plugin.load_state_dict(state["plugins"][name])
        optimizer = self._wrapped.raw_optimizer
        check_optimizer_state(path, state["optimizer"], optimizer)
        optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._fabric.strategy.precision.load_state_dict(state["precision"])
        self._averages.load_state_dict(state["averages"][self._fabric.global_rank])
        self._selection.load_state_dict(state["selection"])
        self._stopping.load_state_dict(state.get("stopping", {}))
        if self._wrapped.ema is not None:
            restore(path, self._wrapped.ema.network, state["ema"]["network"])
            self._wrapped.ema.load_state_dict(state["ema"])
        self._load_position(state)

    def _load_position(self, state: Mapping[str, Any]) -> None:
        # in place: the loop counts in the same object
        self._position.epoch = count_in(state, "epoch")
        self._position.batch = count_in(state, "batch", self._batches)
        self._position.micro_step = count_in(state, "number")
        self._position.saved = self._position.micro_step

    def _check_world(self, path: Path, world: int) -> None:
        if world != self._fabric.world_size:
            raise MtlError(
                f"{path}: written by {world} process(es), resumed by {self._fabric.world_size};"
                " use the same number of devices, or start a new run"
            )
