"""What plugins know of a run: how far it is, in every step, and the network's heads."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.run_folder import RunFolder
from mtl_core.step.step import Step
from mtl_core.testing.factories import make_step, make_tasks
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


@plugin
class Notes:
    """Notes what it is told; its term changes nothing."""

    @hookimpl
    def setup(self, backbone: nn.Module, heads: nn.ModuleDict) -> None:
        self.seen: list[float] = []
        self.parts = backbone, heads

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        self.seen.append(step.progress)
        return {"nothing": 0 * step.losses.sum()}


def trainer(folder: Path, **settings: object) -> Trainer:
    plugins = [ToyData(samples=8), ToyLabels(), ToyNetwork(), Notes()]
    session = prepare(
        Experiment(name="t", plugins=plugins, epochs=2, batch_size=2, validation=0.0, device="cpu", **settings)
    )
    return Trainer(session, make_fabric(session.experiment), RunFolder(folder))


def test_a_step_says_how_much_of_the_training_is_done(tmp_path: Path) -> None:
    t = trainer(tmp_path, accumulate=2)
    t.fit()
    assert t.session.hooks.plugins["notes"].seen == [k / 8 for k in range(8)]


def test_a_resumed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    first.train_epoch(lambda epoch, batch, batches: None)
    first.end_epoch(0.0)
    first.writer.wait()
    second = trainer(tmp_path)
    second.resume()
    second.fit()
    assert second.session.hooks.plugins["notes"].seen == [k / 8 for k in range(4, 8)]


def test_outside_a_run_all_is_done() -> None:
    assert make_step(make_tasks()).progress == 1


def test_setup_is_given_the_heads_of_the_run(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    backbone, heads = t.session.hooks.plugins["notes"].parts
    assert backbone is t.session.network.backbone
    assert heads is t.session.network.heads
    images = torch.rand(2, 3, 32, 32)
    made = {name: head(backbone(images)) for name, head in heads.items()}
    for name, prediction in t.session.network(images).items():
        torch.testing.assert_close(made[name], prediction)
