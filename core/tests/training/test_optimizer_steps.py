"""Optimizer steps: made of several micro-batches, and skipped where a gradient is not finite."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric.strategies.fsdp import FSDPStrategy
from torch import Tensor, nn

from mtl_core.data.sample import MultiTaskDataset
from mtl_core.errors import MtlError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.run_folder import RunFolder
from mtl_core.step.look_ahead import LookAhead
from mtl_core.step.step import Step
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.toys import Shapes, ToyNetwork
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


@plugin
class Data:
    """Images with random labels: none, one or several each."""

    samples: int = 15

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        return Shapes(self.samples, (8, 8), split)

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks, generator: torch.Generator) -> Tensor:
        return torch.rand(size, len(tasks), generator=generator) < 0.45


@plugin
class Look:
    """Keeps what every micro-batch's losses are."""

    @hookimpl
    def setup(self) -> None:
        self.steps: list[Step] = []

    @hookimpl
    def compute_regularizer(self, step: Step) -> None:
        self.steps.append(step)


def trainer(folder: Path, *plugins: object, **settings: Any) -> Trainer:
    options = {"epochs": 1, "validation": 0.0, "device": "cpu", "optimizer": "sgd", "learning_rate": 0.1} | settings
    made = Experiment(name="t", plugins=[*plugins, ToyNetwork()], **options)
    folder.mkdir(exist_ok=True)
    return Trainer(prepare(made), make_fabric(made), RunFolder(folder))


def weights(t: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten() for p in t.step.parameters()])


@pytest.mark.parametrize("normalize", ["sample", "task", "none"])
def test_micro_batches_give_the_gradient_of_one_batch(tmp_path: Path, normalize: str) -> None:
    """Also where a task's labels fall unevenly on them: 6 · 2 samples in two steps of one or of two batches."""
    whole = trainer(tmp_path / "a", Data(samples=12), batch_size=6, normalize=normalize)
    parts = trainer(tmp_path / "b", Data(samples=12), batch_size=3, accumulate=2, normalize=normalize)
    before = weights(whole).clone()
    for t in (whole, parts):
        t.fit()
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-4, atol=1e-6)
    assert (weights(whole) - before).norm() > 1e-2


def test_the_last_step_of_an_epoch_counts_the_batches_that_it_has(tmp_path: Path) -> None:
    """Five batches of 3 in steps of 2, 2 and 1: L_t of a step is the sum over its labels by their number."""
    t = trainer(tmp_path, Data(), Look(), batch_size=3, accumulate=2, normalize="task")
    t.fit()
    steps = t.session.hooks.plugins["look"].steps
    for window in (steps[:2], steps[2:4], steps[4:]):
        found = torch.stack([step.task_losses for step in window]).mean(0)
        counts = torch.cat([step.labelled for step in window]).sum(0)
        expected = torch.cat([step.losses for step in window]).sum(0) / counts.clamp(min=1)
        torch.testing.assert_close(found, expected)


@plugin
class Overflow(nn.Module):
    """Makes the gradient of one micro-batch infinite, and counts steps in a buffer."""

    at: int = 2

    @hookimpl
    def setup(self) -> None:
        self.register_buffer("count", torch.zeros(()))
        self.calls = 0

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        self.count += 1
        self.calls += 1
        factor = torch.inf if self.calls == self.at + 1 else 1.0
        return {"size": factor * step.predictions["depth"].square().mean()}


def test_a_step_with_one_bad_micro_batch_changes_nothing(tmp_path: Path) -> None:
    """Six micro-batches in steps of two; the third is bad, so that the second step is skipped with its buffers."""
    t = trainer(tmp_path, Data(samples=12), Overflow(), batch_size=2, accumulate=2)
    states = [weights(t).clone()]
    for batch in t.data.training:
        t.train_batch(batch)
        if t.position.batch % 2 == 0:
            states.append(weights(t).clone())
    moved = [not torch.equal(a, b) for a, b in itertools.pairwise(states)]
    assert moved == [True, False, True]
    assert t.session.hooks.plugins["overflow"].count == 4
    assert t.averages.take()["skipped_steps"] == 1


@plugin
class Looks:
    """Looks a step ahead and does nothing with it."""

    @hookimpl
    def before_step(self, look_ahead: LookAhead) -> None: ...


def test_a_look_ahead_needs_whole_parameters() -> None:
    from mtl_core.training.optimizer_steps import _looks_ahead

    made = Experiment(name="t", plugins=[Data(), Looks(), ToyNetwork()], device="cpu", validation=0.0)
    fabric = make_fabric(made)
    hooks = prepare(made).hooks
    assert _looks_ahead(hooks, fabric)
    fabric._strategy = FSDPStrategy()
    with pytest.raises(MtlError, match="strategy: FSDPStrategy splits the parameters"):
        _looks_ahead(hooks, fabric)
