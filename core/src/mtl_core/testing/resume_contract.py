"""Contract of what a plugin remembers: a run that is stopped and resumed, and a step that is skipped."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Mapping
from itertools import cycle, islice
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from mtl_core.experiment import Experiment
from mtl_core.run_folder import RunFolder
from mtl_core.step.step import Step
from mtl_core.testing.contract import Contract, same
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer

State = dict[str, Tensor]
"""Parameters and buffers of the network and of every plugin, by name."""


class ResumeContract(Contract):
    """What a plugin learns or remembers is in the checkpoint, and belongs to the step that made it.

    It trains a small network a few times, beside the contract of the plugin's hook::

        class TestResume(ResumeContract):
            @pytest.fixture
            def plugin(self) -> MyRule:
                return MyRule()
    """

    beside: ClassVar[Mapping[str, object]] = {
        "data": ToyData(samples=16),
        "labels": ToyLabels(),
        "network": ToyNetwork(channels=4),
    }
    """The other plugins of the experiment, by name; the tested one comes last and is called ``"plugin"``."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Settings of the experiment besides those of :data:`SETTINGS`."""
    stop: ClassVar[tuple[int, int]] = (2, 2)
    """(epoch, batches of it that are done) at the moment when the run is stopped."""

    def trainer(self, plugin: Any, folder: Path) -> Trainer:
        """A run with the plugin, before its first step."""
        settings = {**SETTINGS, **self.settings}
        plugins: dict[str, object] = {**self.beside, "plugin": plugin}
        experiment = Experiment(name="resume", plugins=plugins, **settings)
        folder.mkdir(exist_ok=True)
        run = RunFolder(folder)
        return Trainer(prepare(experiment, run), make_fabric(experiment), run)

    def whole_run(self, plugin: Any) -> State:
        """The state at the end of a run that was not stopped."""
        with tempfile.TemporaryDirectory() as folder:
            trainer = self.trainer(plugin, Path(folder))
            trainer.fit()
            return state(trainer)

    def resumed_run(self, plugin: Any) -> State:
        """The state at the end of a run that was stopped within an epoch and resumed by another trainer."""
        with tempfile.TemporaryDirectory() as folder:
            first = self.trainer(plugin, Path(folder))

            def save_and_stop(epoch: int, batch: int, batches: int) -> None:
                if (epoch, batch) == self.stop:
                    first.save()
                    raise Stopped

            # within an epoch: order of samples, schedule and averages have to go on in the middle
            with pytest.raises(Stopped):
                first.fit(save_and_stop)
            # everything is built again: what is not in the checkpoint is lost here
            second = self.trainer(plugin, Path(folder))
            second.resume()
            assert (second.position.epoch, second.position.batch) == self.stop
            second.fit()
            return state(second)

    def test_a_resumed_run_ends_like_one_that_was_not_stopped(self, plugin: Any) -> None:
        whole = self.whole_run(plugin)
        resumed = self.resumed_run(plugin)
        assert differing(whole, resumed) == [], "is not in the checkpoint: make it a parameter or a buffer in `setup`"

    def test_a_skipped_step_leaves_no_trace(self, plugin: Any) -> None:
        """A batch of NaN changes nothing, and the batch after it is trained on."""
        with tempfile.TemporaryDirectory() as folder:
            trainer = self.trainer(plugin, Path(folder))
            moved = []
            for number, batch in enumerate(islice(cycle(trainer.data.training), 4)):
                before = state(trainer)
                if number == SKIPPED:
                    # all losses and gradients of the step are NaN; core skips it and puts buffers back
                    batch = batch._replace(images=batch.images * torch.nan)
                trainer.train_batch(batch)
                moved.append(bool(differing(before, state(trainer))))
        assert moved == [number != SKIPPED for number in range(4)]

    def test_a_step_is_freed_when_it_is_over(self, plugin: Any) -> None:
        """What a hook keeps of a step, such as a closure on one of its tensors, must not outlive the next step."""
        with tempfile.TemporaryDirectory() as folder:
            trainer = self.trainer(plugin, Path(folder))
            alive = []
            for batch in islice(cycle(trainer.data.training), 5):
                trainer.train_batch(batch)
                alive.append(_steps_alive())
        # the last one may wait for the next; others would be there for the rest of the run, with all their tensors
        assert alive[-1] <= alive[1], "keep values that are detached, not the step or its tensors"


def _steps_alive() -> int:
    gc.collect()
    # not isinstance: it wakes objects that import what they stand for
    return sum(type(found) is Step for found in gc.get_objects())


SETTINGS: Mapping[str, Any] = {
    "epochs": 4,
    "batch_size": 3,
    "learning_rate": 1e-2,
    "validation": 0.25,
    "device": "cpu",
}
"""With 16 samples: four batches in an epoch."""

SKIPPED = 2
"""Number of the batch that is NaN."""


class Stopped(Exception):
    """Ends a run in the middle of an epoch."""


def state(trainer: Trainer) -> State:
    return {name: value.clone() for name, value in trainer.step.state_dict().items()}


def differing(a: State, b: State) -> list[str]:
    """Names of what is not bit-identical in two states; NaN equals NaN."""
    names = sorted(a.keys() | b.keys())
    return [name for name in names if name not in a or name not in b or not same(a[name], b[name])]
