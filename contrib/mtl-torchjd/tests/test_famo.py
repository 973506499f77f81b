"""FAMO: torchjd's update of the logits, with a state for each task."""

from __future__ import annotations

import attrs
import pytest
import torch
import torchjd.scalarization
from torch import Tensor

from mtl_core import Step
from mtl_core.testing import Hooks, StubBackbone, make_step, make_tasks
from mtl_torchjd import TorchJD
from mtl_torchjd.famo import Famo

K = 3
EVERYBODY = torch.ones(K, dtype=torch.bool)


def prepared() -> tuple[Hooks, Famo]:
    hooks = Hooks({"plugin": TorchJD(scalarizer="FAMO")}, required=())
    hooks.setup(make_tasks(), (32, 64), StubBackbone(width=4), lambda name: torch.manual_seed(0))
    return hooks, hooks.plugins["plugin"].method


def with_losses(values: Tensor, active: Tensor) -> Step:
    losses = (values * active).requires_grad_()
    return attrs.evolve(make_step(make_tasks()), task_losses=losses, task_means=values * active, active=active)


class Look:
    """A look ahead that knows the losses before and after the step."""

    train_batch = None

    def __init__(self, losses: Tensor, active: Tensor) -> None:
        self.now = losses
        self.mask = active

    def losses(self, batch: object) -> Tensor:
        return self.now

    def active(self, batch: object) -> Tensor:
        return self.mask


def stepped(hooks: Hooks, before: Tensor, after: Tensor, active: Tensor = EVERYBODY) -> Tensor:
    """The total of a step that changes the losses so."""
    look = Look(before * active, active)
    hooks.before_step(look)  # type: ignore[arg-type]
    step = with_losses(before, active)
    total = hooks.combine_losses(step.task_losses, step.task_means, step.active, step)
    look.now = after * active
    hooks.after_step(look)  # type: ignore[arg-type]
    return total


def drawn(number: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Losses before and after a step, (2, K)."""
    return torch.rand(2, K, generator=torch.Generator().manual_seed(number)).to(dtype) + 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_torchjds_over_steps(dtype: torch.dtype) -> None:
    hooks, famo = prepared()
    oracle = torchjd.scalarization.FAMO(K)
    for number in range(5):
        before, after = drawn(number, dtype)
        torch.testing.assert_close(stepped(hooks, before, after), oracle(before))
        oracle.update(after)
    torch.testing.assert_close(famo.logits, oracle._w.detach())


def test_keeps_the_logits_of_a_task_that_is_absent() -> None:
    hooks, famo = prepared()
    stepped(hooks, torch.ones(K), torch.tensor([0.5, 1.0, 0.9]), torch.tensor([True, False, True]))
    assert famo.logits[1] == 0
    assert famo.logits[[0, 2]].all()


def test_corrects_the_moments_by_each_tasks_own_count() -> None:
    """An Adam for each task, stepped where the task has a label."""
    hooks, famo = prepared()
    logits = [torch.zeros((), requires_grad=True) for _ in range(K)]
    adams = [torch.optim.Adam([logit], lr=0.025, weight_decay=1e-3) for logit in logits]
    for number in range(12):
        before, after = drawn(number)
        active = torch.tensor([True, number % 3 == 2, number % 2 == 0])
        stepped(hooks, before, after, active)
        rows = active.nonzero().flatten().tolist()
        shares = torch.stack([logits[k] for k in rows]).softmax(0)
        change = (before + 1e-8).log() - (after + 1e-8).log()
        for k, slope in zip(rows, torch.autograd.grad(shares @ change[active], [logits[k] for k in rows]), strict=True):
            logits[k].grad = slope
            adams[k].step()
    torch.testing.assert_close(famo.logits, torch.stack(logits).detach())
    assert famo.count.tolist() == [12, 4, 6]
