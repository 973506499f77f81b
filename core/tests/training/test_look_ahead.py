"""Looking a step ahead: right losses, right steps, and no trace in the run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl_core import LookAhead
from mtl_core.data.datasets import BlankedDataset
from mtl_core.data.sample import Batch, collate
from mtl_core.errors import MtlError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.run_folder import RunFolder
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.toys import ToyBackbone, ToyData, ToyLabels
from mtl_core.training.checkpoint import load_checkpoint
from mtl_core.training.fabric import make_fabric
from mtl_core.training.look_ahead import StepAhead
from mtl_core.training.session import Session, prepare
from mtl_core.training.step import TrainingStep
from mtl_core.training.trainer import Trainer


@plugin
class Noisy:
    """A network with everything that a look could disturb: batch norm and dropout."""

    @hookimpl
    def build_backbone(self, in_channels: int) -> nn.Module:
        return ToyBackbone(6, nn.Conv2d(in_channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh(), nn.Dropout(0.3))

    @hookimpl
    def build_heads(self, tasks: Tasks) -> nn.ModuleDict:
        return nn.ModuleDict({task.name: nn.Conv2d(6, task.channels, 1) for task in tasks})


@plugin
class Brightness:
    """Another brightness for every image; keeps what it made."""

    @hookimpl
    def setup(self) -> None:
        self.seen: list[Tensor] = []

    @hookimpl
    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        self.seen.append(images * (0.5 + torch.rand(len(images), 1, 1, 1, generator=generator)))
        return self.seen[-1]


@plugin
class Looker(nn.Module):
    """Asks for everything before every step, and counts its steps in a buffer."""

    @hookimpl
    def setup(self) -> None:
        self.register_buffer("count", torch.zeros(()))
        self.seen: list[list[int]] = []

    @hookimpl
    def before_step(self, look_ahead: LookAhead) -> None:
        second = look_ahead.second_batch()
        held = look_ahead.second_batch("validation")
        theta = look_ahead.parameters()
        gradient = look_ahead.gradient(look_ahead.losses(look_ahead.train_batch, theta).sum(), theta)
        assert look_ahead.losses(second, look_ahead.stepped(theta, gradient)).isfinite().all()
        assert look_ahead.active(held).shape == (3,)
        self.count += 1
        self.seen.append([*second.index.tolist(), *held.index.tolist()])


SIZE = (8, 8)


def session_of(*plugins: object, **settings: Any) -> Session:
    parts = [ToyData(samples=20, size=SIZE), ToyLabels(), Noisy(), Brightness(), *plugins]
    named = {type(part).__name__: part for part in parts}
    return prepare(Experiment(name="t", plugins=named, **{"batch_size": 4, "validation": 0.2} | settings))


def trained(session: Session, folder: Path, resume: bool = False) -> Trainer:
    fabric = make_fabric(session.experiment)
    run = RunFolder(folder)
    folder.mkdir(exist_ok=True)
    trainer = Trainer(session, fabric, run)
    if resume:
        trainer.resume()
    trainer.fit()
    return trainer


def batch_of(session: Session, places: range) -> Batch:
    data = BlankedDataset(session.dataset, session.labelled)
    return collate([data[i] for i in places])


def look(session: Session, optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None) -> LookAhead:
    step = TrainingStep(session.network, session.hooks)
    parameters = list(session.network.parameters())
    made = torch.optim.SGD(parameters, lr=0.1) if optimizer is None else optimizer(parameters)
    return StepAhead(step, batch_of(session, range(4)), 7, made, lambda source: batch_of(session, range(4, 8)))


def test_a_look_leaves_no_trace_in_a_run(tmp_path: Path) -> None:
    plain = trained(session_of(device="cpu", epochs=2), tmp_path / "plain").state()
    looked = trained(session_of(Looker(), device="cpu", epochs=2), tmp_path / "looked").state()
    for name, value in plain["step"].items():
        assert torch.equal(looked["step"][name], value), name
    assert str(plain["optimizer"]) == str(looked["optimizer"])


def test_a_look_leaves_parameters_gradients_and_statistics() -> None:
    session = session_of()
    ahead = look(session)
    before = {name: value.clone() for name, value in ahead.step.state_dict().items()}
    theta = ahead.parameters()
    moved = ahead.stepped(theta, ahead.gradient(ahead.losses(ahead.train_batch, theta).sum(), theta))
    ahead.losses(ahead.second_batch(), moved)
    ahead.losses(ahead.train_batch)
    assert all(torch.equal(value, before[name]) for name, value in ahead.step.state_dict().items())
    assert all(p.grad is None for p in ahead.step.parameters())


def test_losses_are_those_of_the_network_at_the_parameters_given() -> None:
    session = session_of()
    ahead = look(session)
    network = session.network
    theta = {name: p + 0.1 for name, p in ahead.parameters().items()}
    with torch.no_grad():
        found = ahead.losses(ahead.train_batch, theta)
        for p in network.parameters():
            p += 0.1
        torch.testing.assert_close(ahead.losses(ahead.train_batch), found)
        network.eval()  # no dropout, and statistics that are the same whoever computes
        predictions = network(ahead.train_batch.images)
        batch = ahead.train_batch
        one_label_each = torch.stack([t.loss(predictions[t.name], batch.targets[t.name]) for t in network.tasks], 1)
        expected = torch.where(batch.labelled, one_label_each, torch.zeros(())).sum(0) / 4
        torch.testing.assert_close(ahead.losses(batch), expected)


def test_dropout_draws_the_same_every_time() -> None:
    ahead = look(session_of())
    assert torch.equal(ahead.losses(ahead.train_batch), ahead.losses(ahead.train_batch))


def test_the_train_batch_is_what_the_step_sees() -> None:
    session = session_of()
    ahead = look(session)
    seen = session.hooks.plugins["Brightness"].seen
    images = ahead.train_batch.images
    ahead.step(ahead.batch, 7)
    assert len(seen) == 2
    assert torch.equal(images, seen[1])
    assert not torch.equal(images, ahead.batch.images)


def test_a_second_batch_is_augmented_if_it_is_training_data() -> None:
    ahead = look(session_of())
    plain = ahead.second("training").images
    assert torch.equal(ahead.second_batch("validation").images, plain)
    assert not torch.equal(ahead.second_batch("training").images, plain)


def test_only_trained_parameters_are_given_and_heads_can_be_left_out() -> None:
    session = session_of(freeze=("depth",))
    names = set(look(session).parameters())
    assert any(name.startswith("heads.normals") for name in names)
    assert not any(name.startswith("heads.depth") for name in names)
    shared = set(look(session).parameters(heads=False))
    assert shared == {name for name in names if name.startswith("backbone.")}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_virtual_step_is_that_of_sgd(momentum: float) -> None:
    session = session_of()
    optimizer = torch.optim.SGD(session.network.parameters(), lr=0.1, momentum=momentum, weight_decay=0.01)
    ahead = look(session, lambda parameters: optimizer)
    for _ in range(3):
        theta = ahead.parameters()
        gradient = ahead.gradient(ahead.losses(ahead.train_batch, theta).sum(), theta)
        expected = ahead.stepped(theta, gradient)
        expected = {name: value.detach().clone() for name, value in expected.items()}
        for name, p in session.network.named_parameters():
            p.grad = gradient[name]
        optimizer.step()
        for name, p in session.network.named_parameters():
            torch.testing.assert_close(p.detach(), expected[name], rtol=1e-6, atol=1e-7)


def test_a_virtual_step_makes_no_state_in_the_optimizer() -> None:
    session = session_of()
    ahead = look(session, lambda parameters: torch.optim.Adam(parameters, lr=0.1))
    theta = ahead.parameters()
    ahead.stepped(theta, {name: torch.zeros_like(p) for name, p in theta.items()})
    assert not ahead.optimizer.state


def test_a_resumed_run_sees_the_second_batches_of_one_that_was_not_stopped(tmp_path: Path) -> None:
    whole, first, rest = (session_of(Looker(), device="cpu", epochs=n) for n in (3, 1, 3))
    trained(whole, tmp_path / "whole")
    trained(first, tmp_path / "parts")
    trained(rest, tmp_path / "parts", resume=True)
    seen = [s.hooks.plugins["Looker"].seen for s in (whole, first, rest)]
    assert len(seen[0]) == 12
    assert seen[1] + seen[2] == seen[0]
    epochs = [[i for row in seen[0][4 * n : 4 * n + 4] for i in row[:4]] for n in range(3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2]
    held = {i for row in seen[0] for i in row[4:]}
    assert len(held) == 4
    assert held.isdisjoint(i for row in seen[0] for i in row[:4])
    a, b = (load_checkpoint(tmp_path / name / "last.ckpt")["step"] for name in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_without_validation_data_the_error_says_what_to_do(tmp_path: Path) -> None:
    session = session_of(Looker(), device="cpu", epochs=1, validation=0.0)
    with pytest.raises(MtlError, match=r"no validation data.*set validation"):
        trained(session, tmp_path / "r")
