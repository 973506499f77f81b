"""Re-estimated statistics against those of all values together."""

from __future__ import annotations

import logging
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
from mtl_core.training.batch_norm import batch_norms, batch_statistics, reestimate
from mtl_core.training.checkpoint import load_checkpoint
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))


def batches() -> list[Tensor]:
    """Two, of different sizes and brightness."""
    generator = torch.Generator().manual_seed(1)
    return [k * torch.rand(size, 3, 8, 8, generator=generator) for k, size in ((1, 2), (5, 6))]


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_statistics_are_those_of_all_batches_together() -> None:
    """Also of the second layer, behind a first one that normalises every batch by itself."""
    net = network()
    entering = []
    net[4].register_forward_pre_hook(lambda module, inputs: entering.append(inputs[0].detach()))
    before = state(net)
    reestimate(net, batches())
    first = torch.cat([net[0](images) for images in batches()]).detach()
    torch.testing.assert_close(net[1].running_mean, first.mean((0, 2, 3)))
    torch.testing.assert_close(net[1].running_var, first.var((0, 2, 3)))
    second = torch.cat(entering)
    torch.testing.assert_close(net[4].running_mean, second.mean((0, 2, 3)))
    torch.testing.assert_close(net[4].running_var, second.var((0, 2, 3)))
    others = [name for name in before if not name.endswith(("running_mean", "running_var"))]
    assert all(torch.equal(before[name], net.state_dict()[name]) for name in others)
    assert not net[1]._forward_pre_hooks


def test_with_the_statistics_of_a_batch_evaluation_is_what_training_computes() -> None:
    """Up to the variance: normalised with that of the batch, kept as an estimate of the population's."""
    net = network()
    images = batches()[1]
    trained = net(images)
    reestimate(net, [images])
    torch.testing.assert_close(net.eval()(images), trained, rtol=1e-2, atol=1e-2)


def test_values_that_are_not_finite_leave_a_layer_as_it_was() -> None:
    net = network()
    before = state(net)
    reestimate(net, [batches()[0] * float("nan")])
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_layer_in_evaluation_mode_and_one_without_statistics_are_left_alone() -> None:
    net = network()
    net[1].eval()
    net.append(nn.BatchNorm2d(2, track_running_stats=False))
    before = state(net)
    reestimate(net, batches())
    assert torch.equal(net[1].running_mean, before["1.running_mean"])
    assert not torch.equal(net[4].running_mean, before["4.running_mean"])


def test_a_network_may_normalise_by_the_batch_in_evaluation() -> None:
    net = network()
    images = batches()[1]
    expected = net(images)
    layers = batch_norms(net)
    net.eval()
    before = state(net)
    assert not torch.allclose(net(images), expected)
    with batch_statistics(layers):
        torch.testing.assert_close(net(images), expected)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [layer.training for layer in layers] == [False, False]
    assert all(layer.track_running_stats for layer in layers)


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


def trainer(folder: Path, momentum: float = 0.1, **settings: Any) -> Trainer:
    options = {"epochs": 2, "batch_size": 2, "validation": 0.25, "device": "cpu", "learning_rate": 1e-2} | settings
    made = Experiment(name="t", plugins=[Drift(), Normed(momentum=momentum)], **options)
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
