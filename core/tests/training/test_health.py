"""What is wrong with a run although it goes on is reported, once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtl_core import train
from mtl_core.data.sample import MultiTaskDataset
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.run_folder import RunFolder
from mtl_core.step.encoder_gradients import EncoderGradients
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.toys import Shapes, ToyData, ToyLabels, ToyNetwork
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


@pytest.mark.parametrize("regularized", [False, True])
def test_a_head_that_no_label_reaches_is_reported_once(
    regularized: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = Experiment(
        name="r", plugins=[ToyData(), ToyLabels(never=("depth",)), ToyNetwork(), *([Smooth()] if regularized else [])],
        epochs=2, batch_size=2, validation=0.0, device="cpu",
    )  # fmt: skip
    run = train(made, tmp_path, evaluate_on=None)
    learns = "it learns from regularizers alone" if regularized else "nothing trains it"
    expected = f'epoch 1: no label reached the head of "depth": {learns}'
    assert [record.getMessage() for record in caplog.records if record.name == "mtl"] == [expected]
    assert run.warned() == [{"epoch": 0, "message": expected}]


@plugin
class Smooth:
    """Pulls depths towards zero."""

    @hookimpl
    def compute_regularizer(self, step: Any) -> dict[str, Any]:
        return {"size": step.predictions["depth"].square().mean()}


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
class Shut:
    """Lets nothing into the encoder in the first so many steps."""

    steps: int = 1

    @hookimpl
    def setup(self) -> None:
        self.calls = 0

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        self.calls += 1
        return torch.full_like(gradients.norms, float(self.calls > self.steps))


def trainer(folder: Path, *plugins: object, **settings: Any) -> Trainer:
    options = {"epochs": 1, "validation": 0.0, "device": "cpu", "optimizer": "sgd", "learning_rate": 0.1} | settings
    made = Experiment(name="t", plugins=[*plugins, ToyNetwork()], **options)
    folder.mkdir(exist_ok=True)
    return Trainer(prepare(made), make_fabric(made), RunFolder(folder))


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "mtl"]


def test_a_shaper_that_stops_the_encoder_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    t = trainer(tmp_path, Data(samples=12), Shut(steps=6), batch_size=3, epochs=3)
    t.fit()
    assert messages(caplog) == [
        'plugin "shut" let no gradient into the encoder in 100 % of an epoch\'s steps, although tasks had one; see'
        " encoder/stopped in metrics.jsonl"
    ]
    assert [record["encoder/stopped"] for record in RunFolder(tmp_path).history()] == [1, 0.5, 0]


def test_a_shaper_that_lets_something_through_is_not_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer(tmp_path, Data(), Shut(steps=0), batch_size=3).fit()
    assert messages(caplog) == []


@pytest.mark.parametrize("never", [("segmentation", "depth", "normals"), ("depth", "normals")])
def test_training_without_a_single_label_is_reported_before_it_begins(
    tmp_path: Path, never: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    data = Data(samples=12)
    t = trainer(tmp_path, data, ToyLabels(never=never), batch_size=3, use={"make_label_mask": "toylabels"})
    seen: list[list[str]] = []
    with caplog.at_level(logging.WARNING):
        t.fit(lambda *_: seen.append(messages(caplog)))
    expected = [
        "none of the 12 training samples carries a label of a task that is learned: there is nothing to learn from but"
        " regularizers"
    ]
    assert seen[0] == (expected if len(never) == 3 else [])
