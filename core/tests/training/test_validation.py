"""Validation at an epoch's end: batch norm's statistics, the images that they come from, when they are compared."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl_core.data.sample import MultiTaskDataset, Sample
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.run_folder import RunFolder
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.toys import Shapes, ToyBackbone, ToyData, ToyNetwork
from mtl_core.training.checkpoint import load_checkpoint
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


class Drifting(Shapes):
    """Images whose brightness grows from sample to sample."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return Sample(sample.image * ((1 + 2 * index) / (1 + 2 * len(self))), sample.targets)


@plugin
class Drift:
    """Sixteen of them, every label."""

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        return Drifting(16, (8, 8), split)

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks) -> Tensor:
        return torch.ones(size, len(tasks), dtype=torch.bool)


class Brighter(nn.Module):
    """Images in 0..1 far from what batch norm expects at the start."""

    def forward(self, images: Tensor) -> Tensor:
        return images * 33


@plugin
class Normed:
    """Batch norm in the encoder, whose running averages move at the speed of ``momentum``."""

    momentum: float = 0.1

    @hookimpl
    def build_backbone(self) -> nn.Module:
        norm = nn.BatchNorm2d(4, momentum=self.momentum)
        return ToyBackbone(4, Brighter(), nn.Conv2d(3, 4, 3, padding=1), norm, nn.Tanh(), nn.Dropout(0.2))

    @hookimpl
    def build_heads(self, tasks: Tasks) -> nn.ModuleDict:
        return nn.ModuleDict({task.name: nn.Conv2d(4, task.channels, 1) for task in tasks})


def trainer(folder: Path, *plugins: object, momentum: float = 0.1, **settings: Any) -> Trainer:
    options = {"epochs": 2, "batch_size": 2, "validation": 0.25, "device": "cpu", "learning_rate": 1e-2} | settings
    made = Experiment(name="t", plugins=[Drift(), Normed(momentum=momentum), *plugins], **options)
    folder.mkdir(exist_ok=True)
    return Trainer(prepare(made), make_fabric(made), RunFolder(folder))


def finished(folder: Path, **settings: Any) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    trainer(folder, **settings).fit()
    history = [{k: v for k, v in record.items() if k != "seconds"} for record in RunFolder(folder).history()]
    return load_checkpoint(folder / "last.ckpt")["step"], history


def test_reestimated_statistics_are_in_the_checkpoint_and_change_nothing_else(tmp_path: Path) -> None:
    """Training normalises by the batch: weights are the same, validation is not."""
    (running, a), (reestimated, b) = (finished(tmp_path / k, batch_norm=k) for k in ("running", "reestimated"))
    different = {name for name, value in running.items() if not torch.equal(value, reestimated[name])}
    assert different == {"network.backbone.2.running_mean", "network.backbone.2.running_var"}
    assert [r["train/loss"] for r in a] == [r["train/loss"] for r in b]
    assert [r["val/depth/rmse"] for r in a] != [r["val/depth/rmse"] for r in b]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resume_reestimates_the_same_statistics(tmp_path: Path, workers: int) -> None:
    settings = {"batch_norm": "reestimated", "batch_norm_batches": 4, "workers": workers}
    whole = finished(tmp_path / "whole", **settings)
    first = trainer(tmp_path / "parts", **settings)
    first.train_epoch(lambda *_: None)
    first.end_epoch(0.0)
    first.writer.wait()
    second = trainer(tmp_path / "parts", **settings)
    second.resume()
    second.fit()
    assert all(torch.equal(value, whole[0][name]) for name, value in second.step.state_dict().items())
    again = [{k: v for k, v in record.items() if k != "seconds"} for record in RunFolder(tmp_path / "parts").history()]
    assert again == whole[1]


def test_frozen_statistics_do_not_move(tmp_path: Path) -> None:
    state, _ = finished(tmp_path, batch_norm="frozen")
    assert torch.equal(state["network.backbone.2.running_mean"], torch.zeros(4))
    assert torch.equal(state["network.backbone.2.running_var"], torch.ones(4))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "mtl" and "batch norm" in r.getMessage()]


def test_statistics_that_do_not_fit_are_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Running averages that hardly move stay at 0 and 1, where the images are at 30."""
    with caplog.at_level(logging.WARNING):
        finished(tmp_path / "a", momentum=1e-4, epochs=4, learning_rate=5e-2)
    (message,) = warnings_of(caplog)
    assert message.startswith("batch norm's statistics do not fit: validation losses in evaluation mode, against")
    assert "each batch of 2 as in training, are depth" in message
    assert message.endswith('; use batch_norm = "reestimated", group norm or larger batches')


def test_statistics_that_fit_are_not_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    finished(tmp_path / "a", momentum=1e-4, epochs=4, learning_rate=5e-2, batch_norm="reestimated")
    assert warnings_of(caplog) == []


def test_overfitting_is_not_taken_for_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A network without batch norm is never suspected."""
    plugins = [ToyData(size=(8, 8)), Drift(), ToyNetwork()]
    made = Experiment(
        name="t", plugins=plugins, use={"build_dataset": "toydata"}, epochs=2, batch_size=2, validation=0.25,
        device="cpu", learning_rate=1.0,
    )  # fmt: skip
    Trainer(prepare(made), make_fabric(made), RunFolder(tmp_path)).fit()
    assert warnings_of(caplog) == []


def compared(t: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs at which statistics are compared, where every epoch gives reason to."""
    epochs: list[int] = []
    monkeypatch.setattr(t.health, "is_suspicious", lambda trained, evaluated: True)
    for epoch in range(t.experiment.epochs):

        def note(by_batch: Mapping[str, float], evaluated: Mapping[str, float], epoch: int = epoch) -> None:
            assert by_batch.keys() == evaluated.keys() == set(t.session.tasks.names)
            epochs.append(epoch + 1)

        monkeypatch.setattr(t.health, "look_at_statistics", note)
        t.validation.measure(epoch, {})
    return epochs


def test_statistics_are_compared_at_few_epochs_and_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compared(trainer(tmp_path, epochs=11), monkeypatch) == [1, 2, 4, 8, 11]


def test_without_batch_norm_there_are_none_to_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    t = trainer(tmp_path)
    t.step.network.backbone[2] = nn.Identity()
    assert compared(t, monkeypatch) == []


def test_an_epoch_without_suspicion_takes_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    t = trainer(tmp_path)
    monkeypatch.setattr(t.health, "look_at_statistics", lambda by_batch, evaluated: pytest.fail("a second pass"))
    found = t.validation.measure(0, {f"train/loss/{name}": 1e6 for name in t.session.tasks.names})
    assert {"val/depth/rmse", "validation/loss/depth"} <= found.keys()


def test_without_validation_data_nothing_is_measured(tmp_path: Path) -> None:
    assert trainer(tmp_path, validation=0.0).validation.measure(0, {}) == {}


@plugin
class Noise:
    """Noise on each of two views."""

    @hookimpl
    def count_views(self) -> int:
        return 2

    @hookimpl
    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return images + torch.rand(images.shape, generator=generator)


def training_images(t: Trainer, epoch: int) -> Tensor:
    return torch.stack(list(t.validation.training_images(epoch)))


def test_training_images_are_those_of_their_epoch(tmp_path: Path) -> None:
    """Augmented, in every view, of the first batches; whatever ran before."""
    t = trainer(tmp_path, Noise(), batch_norm_batches=3)
    first = training_images(t, 0)
    assert first.shape == (3, 2 * 2, 3, 8, 8)
    assert not torch.equal(first[:, :2], first[:, 2:])
    other = training_images(t, 1)
    assert not torch.equal(other, first)
    torch.manual_seed(123)
    assert torch.equal(training_images(t, 0), first)


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (100, 6)])
def test_training_images_end_with_the_epoch(tmp_path: Path, asked: int, given: int) -> None:
    """Twelve samples in batches of two."""
    assert len(training_images(trainer(tmp_path, batch_norm_batches=asked), 0)) == given


@pytest.mark.parametrize(("ema", "batch_norm"), [(None, "running"), (None, "reestimated"), (0.9, "reestimated")])
def test_the_network_that_is_evaluated_gets_the_statistics(tmp_path: Path, ema: float | None, batch_norm: str) -> None:
    t = trainer(tmp_path, ema=ema, batch_norm=batch_norm)
    t.step.train()
    t.validation.settle_statistics(0)
    kept = t.step.network.backbone[2]
    evaluated = t.wrapped.evaluated.backbone[2]
    reestimated = batch_norm == "reestimated"
    assert torch.equal(evaluated.running_mean, torch.zeros(4)) is not reestimated
    # with an average, training goes on with its own
    assert torch.equal(kept.running_mean, torch.zeros(4)) is (ema is not None or not reestimated)
