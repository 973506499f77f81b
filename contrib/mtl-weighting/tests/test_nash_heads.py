"""Nash-MTL with heads = true: one step is that of the published loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from mtl_core import Experiment, MtlError, RunFolder, hookimpl, make_fabric, plugin
from mtl_core.testing import (
    BlankedDataset,
    GradientShaperContract,
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
from mtl_weighting.nash import NashMTL, bargain

RATE = 0.05


class TestRuleBeforeItLooked(LossRuleContract):
    @pytest.fixture
    def plugin(self) -> NashMTL:
        return NashMTL(heads=True)


class TestTheLimit(GradientShaperContract):
    @pytest.fixture
    def plugin(self) -> NashMTL:
        return NashMTL(heads=True)


def session_of(*others: object, **options: Any) -> Session:
    parts = [ToyData(samples=6, size=(6, 6)), ToyLabels(), ToyNetwork(), NashMTL(heads=True, **options), *others]
    settings: dict[str, Any] = {"epochs": 1, "batch_size": 6, "validation": 0.0, "device": "cpu"}
    optimizer: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": RATE}
    return prepare(Experiment(name="t", plugins=parts, level="parameters", **settings, **optimizer))


def losses_of(session: Session) -> Tensor:
    """L_t of all samples, each with one label: Σ_b m_bt L_bt / B."""
    batch = collate([BlankedDataset(session.dataset, session.labelled)[i] for i in range(6)])
    predictions = session.network(batch.images)
    columns = [task.loss(predictions[task.name], batch.targets[task.name]) for task in session.tasks]
    return (torch.stack(columns, 1) * batch.labelled).sum(0) / len(batch.labelled)


def published(session: Session, max_norm: float) -> list[Tensor]:
    """K gradients of the shared parameters, α of the normed Gramian, a backward pass of Σ α_t L_t, a limited norm."""
    network = session.network
    losses = losses_of(session)
    shared = list(network.backbone.parameters())
    rows = []
    for loss in losses:
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True)]))
    g = torch.stack(rows) @ torch.stack(rows).T
    g = g / torch.norm(g)
    alpha = bargain(g, g.diagonal() != 0)
    (alpha.float() * losses).sum().backward()
    if max_norm:
        torch.nn.utils.clip_grad_norm_(shared, max_norm)
    found = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    return found


def trained(session: Session, folder: Path) -> list[Tensor]:
    """What one step of plain SGD went along."""
    before = [p.detach().clone() for p in session.network.parameters()]
    Trainer(session, make_fabric(session.experiment), RunFolder(folder)).fit()
    return [(old - new) / RATE for old, new in zip(before, session.network.parameters(), strict=True)]


@pytest.mark.parametrize("max_norm", [0.0, 0.3, 1.0])
def test_a_step_is_that_of_the_published_loop(max_norm: float, tmp_path: Path) -> None:
    session = session_of(max_norm=max_norm)
    expected = published(session, max_norm)
    found = trained(session, tmp_path)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-4)


def test_without_it_heads_train_with_their_own_losses(tmp_path: Path) -> None:
    session = session_of()
    own = torch.autograd.grad(losses_of(session).sum(), list(session.network.heads.parameters()))
    others = list(session.experiment.plugins.values())[:3]
    plain = prepare(attrs.evolve(session.experiment, plugins=[*others, NashMTL()]))
    found = trained(plain, tmp_path)[-len(own) :]
    for one, other in zip(found, own, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-4)


class Look:
    """A look ahead whose tasks have gradients of a length each, at right angles to one another."""

    train_batch = None

    def __init__(self, lengths: list[float]) -> None:
        self.lengths = torch.tensor(lengths)
        self.asked = 0

    def active(self, batch: object) -> Tensor:
        return self.lengths != 0

    def parameters(self, heads: bool) -> dict[str, Tensor]:
        assert not heads
        self.asked += 1
        return {"p": torch.zeros(3, requires_grad=True)}

    def losses(self, batch: object, parameters: dict[str, Tensor]) -> Tensor:
        return parameters["p"] * self.lengths


def looked(session: Session, *looks: Look) -> list[list[float]]:
    """α after each step, up to a factor: the second task's is 1; of orthogonal gradients it is 1/‖b_t‖."""
    nash = session.hooks.plugins["nash"]
    found = []
    for look in looks:
        session.hooks.before_step(look)  # type: ignore[arg-type]
        found.append([round(weight, 4) for weight in (nash.weights / nash.weights[1]).tolist()])
    return found


def test_weights_are_kept_for_as_many_steps_as_asked() -> None:
    looks = [Look([size, 2.0, 4.0]) for size in (1.0, 0.5, 0.25, 0.2)]
    found = looked(session_of(update_every=3), *looks)
    assert found == [[2, 1, 0.5], [2, 1, 0.5], [2, 1, 0.5], [10, 1, 0.5]]
    assert [look.asked for look in looks] == [1, 0, 0, 1]


def test_another_set_of_tasks_is_solved_for_at_once() -> None:
    looks = [Look([1.0, 2.0, 4.0]), Look([1.0, 2.0, 0.0]), Look([0.5, 2.0, 0.0]), Look([1.0, 2.0, 4.0])]
    found = looked(session_of(update_every=3), *looks)
    assert found == [[2, 1, 0.5], [2, 1, 0], [2, 1, 0], [2, 1, 0.5]]


def test_the_weights_are_logged_and_multiply_the_losses() -> None:
    session = session_of()
    looked(session, Look([1.0, 2.0, 4.0]))
    alpha = (1 + 4**2 + 16**2) ** 0.25 / torch.tensor([1.0, 2.0, 4.0])  # the Gramian's norm is the root of the sum
    step = make_step(session.tasks)
    total = session.hooks.combine_losses(step.task_losses, step.task_means, step.active, step)
    torch.testing.assert_close(total, (step.task_losses * alpha).sum(), rtol=1e-5, atol=0)
    assert step.logged["nash/weight/depth"].item() == pytest.approx(alpha[1].item(), rel=1e-4)


@plugin
class Other:
    """Another rule."""

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses.sum()


def test_needs_the_place_of_the_loss_rule() -> None:
    parts = [ToyData(), ToyLabels(), ToyNetwork(), NashMTL(heads=True), Other()]
    experiment = Experiment(name="t", plugins=parts, use={"combine_losses": "other"})
    with pytest.raises(MtlError, match=r'nash: heads = true needs the hook combine_losses.*"other".*\[use\]'):
        prepare(experiment)
