"""What is wrong with a run although it goes on is reported, once."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtl_core import train
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.hooks.relay import Hooks
from mtl_core.run_folder import RunFolder
from mtl_core.step.encoder_gradients import EncoderGradients
from mtl_core.step.step import Step
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training.fabric import make_fabric
from mtl_core.training.health import Health
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


@plugin
class Smooth:
    """Pulls depths towards zero."""

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        return {"size": step.predictions["depth"].square().mean()}


@plugin
class Agree:
    """The distance of two views, which are equal unless somebody augments them."""

    start: int = 0

    @hookimpl
    def count_views(self) -> int:
        return 2

    @hookimpl
    def setup(self) -> None:
        self.calls = 0

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        self.calls += 1
        both = step.predictions["depth"]
        step.log("weight", torch.zeros(()))
        return {"distance": (both[0] - both[1]).square().mean() * float(self.calls > self.start), "size": both.sum()}


@plugin
class Noise:
    """Another image for every view."""

    @hookimpl
    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return images + torch.rand(images.shape, generator=generator)


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


def experiment(*plugins: object, never: tuple[str, ...] = (), **settings: Any) -> Experiment:
    options: dict[str, Any] = {"epochs": 2, "batch_size": 2, "validation": 0.0, "device": "cpu"} | settings
    parts = [ToyData(size=(8, 8)), ToyLabels(never=never), ToyNetwork(), *plugins]
    return Experiment(name="r", plugins=parts, **options)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "mtl"]


@pytest.mark.parametrize("regularized", [False, True])
def test_a_head_that_no_label_reaches_is_reported_once(
    regularized: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = experiment(*([Smooth()] if regularized else []), never=("depth",))
    run = train(made, tmp_path, evaluate_on=None)
    learns = "it learns from regularizers alone" if regularized else "nothing trains it"
    expected = f'epoch 1: no label reached the head of "depth": {learns}'
    assert messages(caplog) == [expected]
    assert run.warned() == [{"epoch": 0, "message": expected}]


def test_a_term_that_is_always_0_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A term that is not 0, and a value that a plugin logs, are none of its business."""
    run = train(experiment(Agree()), tmp_path, evaluate_on=None)
    (message,) = messages(caplog)
    assert message.startswith("epoch 1: exactly 0 in every step: agree/distance; such a term teaches nothing.")
    assert "whether the views that it compares differ (a plugin has to augment them)" in message
    assert run.warned() == [{"epoch": 0, "message": message}]
    assert [record["agree/weight"] for record in run.history()] == [0, 0]


@pytest.mark.parametrize("start", [0, 1])
def test_a_term_that_is_0_in_some_steps_is_not_reported(
    start: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(experiment(Agree(start=start), Noise()), tmp_path, evaluate_on=None)
    assert messages(caplog) == []


@pytest.fixture
def health() -> Health:
    return Health(experiment(), Hooks({"shut": Shut()}, required=()), reports=True)


def test_every_term_is_named_once_and_those_of_one_epoch_together(
    health: Health, caplog: pytest.LogCaptureFixture
) -> None:
    terms = {"b/x", "a/y", "c/z"}
    health.look_at(0, {"b/x": 0.0, "a/y": 0.0, "c/z": 1.0, "d/logged": 0.0}, terms)
    health.look_at(1, {"b/x": 0.0, "a/y": 0.0, "c/z": 0.0}, terms)
    health.look_at(2, {"b/x": 0.0, "a/y": math.nan, "c/z": 0.0}, terms)
    first, second = messages(caplog)
    assert first.startswith("epoch 1: exactly 0 in every step: a/y, b/x; ")
    assert second.startswith("epoch 2: exactly 0 in every step: c/z; ")


def test_a_term_that_is_not_finite_or_not_there_is_not_0(health: Health, caplog: pytest.LogCaptureFixture) -> None:
    health.look_at(0, {"a/x": math.nan, "a/y": 1e-30}, {"a/x", "a/y", "a/gone"})
    assert messages(caplog) == []


@pytest.mark.parametrize(("skips", "words"), [(1.0, "1 step was skipped"), (3.0, "3 steps were skipped"), (0.0, None)])
def test_skipped_steps(health: Health, skips: float, words: str | None, caplog: pytest.LogCaptureFixture) -> None:
    for epoch in (0, 1):
        health.look_at(epoch, {"skipped_steps": skips})
    expected = f"epoch 1: {words}, the gradients were not finite; lower learning_rate or set clip"
    assert messages(caplog) == ([expected] if words else [])


def test_other_ranks_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    quiet = Health(experiment(), Hooks({}, required=()), reports=False)
    quiet.no_heads()
    quiet.look_at(0, {"skipped_steps": 2.0, "a/x": 0.0}, {"a/x"})
    assert messages(caplog) == []


def test_statistics_are_suspected_once_where_a_loss_is_half_as_large_again(
    health: Health, caplog: pytest.LogCaptureFixture
) -> None:
    assert not health.is_suspicious({"depth": 1.0}, {"depth": 1.4})
    assert not health.is_suspicious({"depth": math.nan}, {"depth": 9.0})
    assert not health.is_suspicious({}, {"depth": 9.0})
    assert health.is_suspicious({"depth": 1.0, "normals": 1.0}, {"depth": 1.6, "normals": 1.0})
    health.look_at_statistics({"depth": 1.0}, {"depth": 1.4})
    assert messages(caplog) == []
    health.look_at_statistics({"depth": 1.0, "normals": 1.0}, {"depth": 1.6, "normals": 1.0})
    (message,) = messages(caplog)
    assert "are depth 1.6 against 1; use" in message
    assert not health.is_suspicious({"depth": 1.0}, {"depth": 1.6})


def test_a_shaper_that_stops_the_encoder_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = train(experiment(Shut(steps=6), epochs=3), tmp_path, evaluate_on=None)
    assert messages(caplog) == [
        'plugin "shut" let no gradient into the encoder in 100 % of an epoch\'s steps, although tasks had one; see'
        " encoder/stopped in metrics.jsonl"
    ]
    assert [record["encoder/stopped"] for record in run.history()] == [1, 0.5, 0]


def test_a_shaper_that_lets_something_through_is_not_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(experiment(Shut(steps=0), epochs=1), tmp_path, evaluate_on=None)
    assert messages(caplog) == []


@pytest.mark.parametrize("never", [("segmentation", "depth", "normals"), ("depth", "normals")])
def test_training_without_a_single_label_is_reported_before_it_begins(
    tmp_path: Path, never: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    made = experiment(never=never, epochs=1)
    trainer = Trainer(prepare(made), make_fabric(made), RunFolder(tmp_path))
    seen: list[list[str]] = []
    with caplog.at_level(logging.WARNING):
        trainer.fit(lambda *_: seen.append(messages(caplog)))
    expected = [
        "none of the 8 training samples carries a label of a task that is learned: there is nothing to learn from but"
        " regularizers"
    ]
    assert seen[0] == (expected if len(never) == 3 else [])
