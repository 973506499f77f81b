"""heads = true: everything is trained with Σ α_t L_t, α from the encoder's parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl_core import Batch, Experiment, LookAhead, MtlError, RunFolder, hookimpl, make_fabric, plugin, shared_gramian
from mtl_core.testing import (
    BlankedDataset,
    LossRuleContract,
    Session,
    ToyData,
    ToyLabels,
    ToyNetwork,
    Trainer,
    collate,
    make_step,
    prepare,
)
from mtl_torchjd import TorchJD
from mtl_torchjd.min_norm import _min_norm_weights

HOST = {"test_runs_on_the_meta_device": "torchjd computes on the host: one round trip in each step"}
SETTINGS: dict[str, dict[str, Any]] = {"MGDA": {}, "FairGrad": {"alpha": 2.0}, "PCGrad": {}}


class TestRuleBeforeItLooked(LossRuleContract):
    skips = HOST

    @pytest.fixture(params=["MGDA", "FairGrad"])
    def plugin(self, request: pytest.FixtureRequest) -> TorchJD:
        return TorchJD(aggregator=request.param, settings=SETTINGS[request.param], heads=True)


SGD = {"learning_rate": 0.05, "optimizer": "sgd", "momentum": 0.0}


def session_of(name: str, *others: object, **settings: Any) -> Session:
    chosen = {"batch_size": 3, "validation": 0.0, "device": "cpu", "epochs": 1} | SGD | settings
    rule = TorchJD(aggregator=name, settings=SETTINGS[name], heads=True)
    parts = {"data": ToyData(samples=6, size=(6, 6)), "labels": ToyLabels(), "network": ToyNetwork(), "rule": rule}
    parts |= {type(other).__name__.lower(): other for other in others}
    return prepare(Experiment(name="t", plugins=parts, **chosen))


def batch_of(session: Session) -> Batch:
    """All samples."""
    return collate([BlankedDataset(session.dataset, session.labelled)[i] for i in range(6)])


def losses_of(session: Session, batch: Batch) -> Tensor:
    """L_t with one label per image, Σ_b m_bt L_bt / B."""
    predictions = session.network(batch.images)
    columns = [task.loss(predictions[task.name], batch.targets[task.name]) for task in session.tasks]
    return (torch.stack(columns, 1) * batch.labelled).sum(0) / len(batch.labelled)


def rows_of(session: Session, batch: Batch) -> Tensor:
    """Gradients of the encoder's parameters, by a backward pass for each task."""
    rows = []
    for loss in losses_of(session, batch):
        session.network.zero_grad()
        loss.backward(retain_graph=True)
        rows.append(torch.cat([p.grad.flatten() for p in session.network.backbone.parameters() if p.grad is not None]))
    session.network.zero_grad()
    return torch.stack(rows)


@plugin
class Spy:
    """Looks at the Gramian too."""

    @hookimpl
    def before_step(self, look_ahead: LookAhead) -> None:
        self.found = shared_gramian(look_ahead)


def test_the_gramian_is_that_of_the_encoders_parameters(tmp_path: Path) -> None:
    session = session_of("MGDA", Spy(), batch_size=6)
    rows = rows_of(session, batch_of(session))
    Trainer(session, make_fabric(session.experiment), RunFolder(tmp_path)).fit()
    torch.testing.assert_close(session.hooks.plugins["spy"].found, rows @ rows.T, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["MGDA", "FairGrad"])
def test_a_step_trains_encoder_and_heads_with_the_weighted_sum(name: str, tmp_path: Path) -> None:
    """Against the published loop: K gradients, weights, one backward pass of Σ α_t L_t."""
    session = session_of(name, batch_size=6)
    network = session.network
    batch = batch_of(session)
    rows = rows_of(session, batch).double()
    gramian = rows @ rows.T
    if name == "MGDA":
        alpha = _min_norm_weights(gramian)
    else:
        reduced = gramian / gramian.diagonal().mean()
        alpha = fair(reduced)
    total = (alpha.float() * losses_of(session, batch)).sum()
    expected = torch.autograd.grad(total, list(network.parameters()))
    before = [p.detach().clone() for p in network.parameters()]
    trainer = Trainer(session, make_fabric(session.experiment), RunFolder(tmp_path))
    trainer.fit()
    for old, new, gradient in zip(before, network.parameters(), expected, strict=True):
        torch.testing.assert_close((old - new) / 0.05, gradient, rtol=2e-3, atol=1e-5)


def fair(gramian: Tensor) -> Tensor:
    """FairGrad's α: G α = α^(−1/2)."""
    alpha = torch.ones(len(gramian), dtype=torch.float64)
    for _ in range(5000):
        alpha = (alpha * (alpha**-0.5 / (gramian @ alpha)).clamp(0.5, 2).sqrt()).clamp(min=1e-6)
    return alpha


@plugin
class Frozen:
    """A network whose encoder does not learn."""

    @hookimpl
    def build_backbone(self, in_channels: int) -> nn.Module:
        made = ToyNetwork().build_backbone(in_channels)
        made.requires_grad_(False)
        return made

    @hookimpl
    def build_heads(self, backbone: nn.Module, tasks: Any) -> nn.ModuleDict:
        return ToyNetwork().build_heads(backbone, tasks)


def test_heads_on_a_frozen_encoder_are_trained_alone(tmp_path: Path) -> None:
    rule = TorchJD(aggregator="MGDA", heads=True)
    parts = {"data": ToyData(samples=6, size=(6, 6)), "labels": ToyLabels(), "network": Frozen(), "rule": rule}
    experiment = Experiment(name="t", plugins=parts, epochs=1, batch_size=6, validation=0.0, device="cpu")
    session = prepare(experiment)
    before = [p.detach().clone() for p in session.network.heads.parameters()]
    Trainer(session, make_fabric(experiment), RunFolder(tmp_path)).fit()
    after = list(session.network.heads.parameters())
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_logs_the_weights_of_the_tasks_with_a_label() -> None:
    session = session_of("MGDA")
    step = make_step(session.tasks)
    labelled = torch.tensor([True, False, True])
    session.hooks.combine_losses(step.task_losses, step.task_means, labelled, step)
    found = {name: value for name, value in step.logged.items() if name.startswith("rule/weight/")}
    assert [value.isnan().item() for value in found.values()] == [False, True, False]


def test_what_is_not_finite_skips_the_step() -> None:
    session = session_of("MGDA")
    step = make_step(session.tasks)
    session.hooks.plugins["rule"].method.gramian.fill_(torch.nan)
    total = session.hooks.combine_losses(step.task_losses, step.task_means, step.active, step)
    assert total.isnan()


@plugin
class Other:
    """Another rule."""

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses.sum()


def test_needs_the_place_of_the_loss_rule() -> None:
    parts = [ToyData(), ToyLabels(), ToyNetwork(), TorchJD(aggregator="MGDA", heads=True), Other()]
    experiment = Experiment(name="t", plugins=parts, use={"combine_losses": "other"})
    with pytest.raises(MtlError, match=r'torchjd: heads = true needs the hook combine_losses.*"other".*\[use\]'):
        prepare(experiment)
