"""The average of the weights: against its formula, in evaluation and in checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mtl_core.commands.train import train
from mtl_core.experiment import Experiment
from mtl_core.run_folder import RunFolder
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.toys import TOY_TASKS, ToyData, ToyLabels, ToyNetwork
from mtl_core.training.checkpoint import load_checkpoint
from mtl_core.training.ema import Average
from mtl_core.training.fabric import make_fabric
from mtl_core.training.network import Network
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer
from mtl_core.training.warm_start import network_weights


def network() -> Network:
    backbone = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    return Network(backbone, nn.ModuleDict({"depth": nn.Conv2d(2, 1, 1)}), Tasks([TOY_TASKS["depth"]]))


def test_the_formula_with_a_skipped_step() -> None:
    net = network()
    average, expected = Average(net, 0.5), {n: v.clone() for n, v in net.state_dict().items()}
    for n, skipped in enumerate((0.0, 0.0, 1.0, 0.0)):
        with torch.no_grad():
            for value in net.state_dict().values():
                value.add_(1)
        average.update(torch.tensor(skipped))
        d = min(0.5, (1 + n) / (10 + n))
        for name, value in net.state_dict().items():
            if not value.is_floating_point():
                expected[name] = value.clone()
            elif not skipped:
                expected[name] = d * expected[name] + (1 - d) * value
    found = average.network.state_dict()
    assert found.keys() == net.state_dict().keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)
    assert not any(p.requires_grad for p in average.network.parameters())


def experiment(**settings: Any) -> Experiment:
    options = {"epochs": 2, "validation": 0.25, "device": "cpu", "batch_size": 2, "learning_rate": 0.05} | settings
    return Experiment(name="t", plugins=[ToyData(), ToyLabels(), ToyNetwork()], **options)


def test_the_average_is_evaluated_and_the_weights_are_trained_as_without_it(tmp_path: Path) -> None:
    runs = {name: train(experiment(ema=decay), tmp_path / name) for name, decay in (("plain", None), ("ema", 0.9))}
    states = {name: load_checkpoint(run.checkpoint()) for name, run in runs.items()}
    for name, value in states["plain"]["step"].items():
        assert torch.equal(value, states["ema"]["step"][name])
    histories = {name: run.history() for name, run in runs.items()}
    assert histories["ema"][0]["train/loss"] == histories["plain"][0]["train/loss"]
    assert histories["ema"][1]["val/depth/rmse"] != histories["plain"][1]["val/depth/rmse"]
    assert runs["ema"].results.read_text() != runs["plain"].results.read_text()


def test_the_checkpoint_gives_the_average(tmp_path: Path) -> None:
    made = experiment(ema=0.9)
    t = Trainer(prepare(made), make_fabric(made), RunFolder(tmp_path))
    t.fit()
    for name in ("last", "best"):
        found = network_weights(load_checkpoint(RunFolder(tmp_path).checkpoint(name)))
        assert found.keys() == t.step.network.state_dict().keys()
    average, last = t.evaluated.state_dict(), network_weights(load_checkpoint(RunFolder(tmp_path).checkpoint()))
    assert all(torch.equal(last[name], value) for name, value in average.items())
    assert any(not torch.equal(value, t.step.network.state_dict()[name]) for name, value in average.items())


@pytest.mark.parametrize("batch_norm", ["running", "reestimated", "frozen"])
def test_with_batch_norm(batch_norm: str, tmp_path: Path) -> None:
    """Statistics are those of the network that is evaluated."""
    made = experiment(ema=0.9, batch_norm=batch_norm)
    session = prepare(made)
    session.network.backbone.append(nn.BatchNorm2d(8))  # type: ignore[operator]
    t = Trainer(session, make_fabric(made), RunFolder(tmp_path))
    t.fit()
    layer = t.evaluated.backbone[-1]  # type: ignore[index]
    moved = not torch.equal(layer.running_mean, torch.zeros(8))
    assert moved == (batch_norm != "frozen")
    assert layer.training == (batch_norm != "frozen")
