"""Three moments at the seam: who else may differentiate there, what is kept, what is reported."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mtl_core.data.datasets import BlankedDataset
from mtl_core.data.sample import Batch, collate
from mtl_core.errors import ContractError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.step.encoder_gradients import EncoderGradients, Shaped
from mtl_core.step.step import Step
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training.encoder_gradient import STOPPED
from mtl_core.training.session import Session, prepare
from mtl_core.training.step import TrainingStep


@plugin
class Weights(nn.Module):
    """The same weight for every task, and a count of the steps that were kept."""

    weight: float = 0.5

    @hookimpl
    def setup(self) -> None:
        self.register_buffer("count", torch.zeros(()))

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Shaped:
        return Shaped(torch.full_like(gradients.norms, self.weight), {"count": self.count + 1})


@plugin
class Whole:
    """A gradient like z in place of weights."""

    factor: float = 0.0

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return sum(b[0] for b in gradients.branches if b[0] is not None) * self.factor


@plugin
class Penalty:
    """The squared gradient of the losses at the features, or at what lies below them."""

    graph: bool = True

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        total = step.task_losses.sum()
        (found,) = torch.autograd.grad(total, step.features, create_graph=self.graph, retain_graph=True)
        return {"penalty": found.square().sum() if self.graph else found.square().sum() + 0 * total}


def session_of(*plugins: object) -> Session:
    made = Experiment(name="t", plugins=[ToyData(size=(8, 8)), ToyLabels(), ToyNetwork(), *plugins], batch_size=6)
    return prepare(made)


def batch_of(session: Session) -> Batch:
    data = BlankedDataset(session.dataset, session.labelled)
    return collate([data[i] for i in range(6)])


def stepped(session: Session) -> tuple[TrainingStep, dict[str, Tensor]]:
    step = TrainingStep(session.network, session.hooks)
    total, _ = step(batch_of(session), 0)
    total.backward()
    step.seam.commit()
    return step, {n: p.grad for n, p in session.network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("graph", [True, False])
def test_a_regularizer_may_differentiate_with_respect_to_the_features(graph: bool) -> None:
    """What it takes is the plain derivative; the step's own gradient is shaped once, the penalty's part with it."""
    _, plain = stepped(session_of(Penalty(graph=graph)))
    session = session_of(Weights(), Penalty(graph=graph))
    step, shaped = stepped(session)
    for name, gradient in plain.items():
        factor = 0.5 if name.startswith("backbone") else 1.0
        torch.testing.assert_close(shaped[name], factor * gradient, rtol=1e-4, atol=1e-8)
    assert session.hooks.plugins["weights"].count == 1
    assert step.seam.logged["encoder/norm/depth"] > 0


def test_the_penalty_is_there() -> None:
    with_it = stepped(session_of(Penalty()))[1]
    without = stepped(session_of())[1]
    name = "backbone.0.weight"
    assert (with_it[name] - without[name]).norm() > 1e-3 * without[name].norm()


def test_a_second_backward_pass_of_one_step_is_refused() -> None:
    session = session_of(Weights())
    step = TrainingStep(session.network, session.hooks)
    total, _ = step(batch_of(session), 0)
    total.backward(retain_graph=True)
    with pytest.raises(ContractError, match="a step that is over; call backward once per step"):
        total.backward()


def test_the_gradient_of_an_earlier_step_is_refused() -> None:
    session = session_of(Weights())
    step = TrainingStep(session.network, session.hooks)
    batch = batch_of(session)
    first, _ = step(batch, 0)
    second, _ = step(batch, 1)
    with pytest.raises(ContractError, match="a step that is over"):
        first.backward()
    second.backward()


@pytest.mark.parametrize(
    ("shaper", "stopped"),
    [(Weights(weight=0.0), 1.0), (Weights(weight=1e-20), 0.0), (Whole(factor=0.0), 1.0), (Whole(factor=1.0), 0.0)],
)
def test_a_shaper_that_lets_nothing_through_is_counted(shaper: object, stopped: float) -> None:
    assert stepped(session_of(shaper))[0].seam.logged[STOPPED] == stopped


def test_a_step_without_any_label_is_not_counted() -> None:
    session = session_of(Weights(weight=0.0))
    session.labelled = torch.zeros_like(session.labelled)
    assert stepped(session)[0].seam.logged[STOPPED] == 0
