"""STCH after a warm-up: against LibMTL's rule written plainly, and with labels missing."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import Tensor

from mtl_core import Step
from mtl_core.testing import Hooks, LossRuleContract, StubBackbone, make_step, make_tasks
from mtl_torchjd import TorchJD

K = 3
MU = 0.7
EVERYBODY = torch.ones(K, dtype=torch.bool)


class TestRuleInItsWarmUp(LossRuleContract):
    skips = {"test_runs_on_the_meta_device": "torchjd computes on the host: one round trip in each step"}

    @pytest.fixture
    def plugin(self) -> TorchJD:
        return TorchJD(scalarizer="STCH", settings={"mu": MU}, warmup_epochs=1)


def prepared(**settings: object) -> Hooks:
    plugin = TorchJD(scalarizer="STCH", settings={"mu": MU, **settings}, warmup_epochs=1)  # type: ignore[dict-item]
    hooks = Hooks({"plugin": plugin}, required=())
    hooks.setup(make_tasks(), (32, 64), StubBackbone(width=4), lambda name: None)
    return hooks


def combined(hooks: Hooks, values: Tensor, active: Tensor = EVERYBODY) -> tuple[Tensor, Tensor]:
    """The total, and its gradient at the losses (K,)."""
    losses = (values * active).requires_grad_()
    step: Step = attrs.evolve(make_step(make_tasks()), task_losses=losses, task_means=losses.detach(), active=active)
    total = hooks.combine_losses(losses, losses.detach(), active, step)
    return total.detach(), torch.autograd.grad(total, losses)[0]


def drawn(epoch: int, batch: int) -> Tensor:
    return torch.rand(K, generator=torch.Generator().manual_seed(10 * epoch + batch)) + 0.5


def peers(values: Tensor, epoch: int, nadir: Tensor) -> Tensor:
    """LibMTL's loss with a warm-up of one epoch."""
    if epoch <= 1:
        return values.log().sum()
    relative = (values / nadir).log()
    top = relative.max().detach()
    return MU * ((relative - top) / MU).exp().sum().log() * K


def test_is_libmtls_rule() -> None:
    """Up to its constant: LibMTL leaves out K times the largest relative loss, which has no gradient there."""
    hooks = prepared()
    nadir = torch.stack([drawn(1, batch) for batch in range(3)]).mean(0)
    for epoch in range(4):
        for batch in range(3):
            values = drawn(epoch, batch).requires_grad_()
            expected = torch.autograd.grad(peers(values, epoch, nadir), values)[0]
            _, found = combined(hooks, values.detach())
            torch.testing.assert_close(found, expected)
        hooks.after_epoch(epoch, {})


def test_the_weights_of_tasks_that_fell_equally_are_equal() -> None:
    """On the losses as they are the largest one would have all the weight."""
    hooks = prepared()
    values = torch.tensor([0.01, 1.0, 100.0])
    for epoch in range(2):
        combined(hooks, values)
        hooks.after_epoch(epoch, {})
    _, found = combined(hooks, values / 2)
    torch.testing.assert_close(found * values / 2, torch.ones(K))
    plain = Hooks({"plugin": TorchJD(scalarizer="STCH", settings={"mu": MU})}, required=())
    plain.setup(make_tasks(), (32, 64), StubBackbone(width=4), lambda name: None)
    _, weights = combined(plain, values / 2)
    assert weights[2] > 0.99 * weights.sum()


def test_nadir_is_the_mean_of_the_steps_with_a_label() -> None:
    hooks = prepared()
    hooks.after_epoch(0, {})
    combined(hooks, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([True, True, False]))
    combined(hooks, torch.tensor([3.0, 7.0, 3.0]), torch.tensor([True, False, False]))
    hooks.after_epoch(1, {})
    nadir = hooks.plugins["plugin"].method.nadir
    torch.testing.assert_close(nadir[:2], torch.tensor([2.0, 2.0], dtype=torch.float64))
    assert nadir[2].isnan()
    _, found = combined(hooks, torch.tensor([2.0, 2.0, 5.0]))
    torch.testing.assert_close(found * torch.tensor([2.0, 2.0, 5.0]), torch.ones(K))  # compared with itself
    hooks.after_epoch(2, {})
    torch.testing.assert_close(nadir, torch.tensor([2.0, 2.0, 5.0], dtype=torch.float64))


def test_counts_the_tasks_that_are_there() -> None:
    hooks = prepared()
    for epoch in range(2):
        combined(hooks, torch.ones(K))
        hooks.after_epoch(epoch, {})
    total, found = combined(hooks, torch.ones(K), torch.tensor([True, True, False]))
    torch.testing.assert_close(found, torch.tensor([1.0, 1.0, 0.0]))
    torch.testing.assert_close(total, torch.tensor(2 * MU * torch.tensor(2.0).log().item()))


def test_weights_of_the_experiment_are_kept() -> None:
    hooks = prepared(weights=(1.0, 1.0, 2.0))
    for epoch in range(2):
        combined(hooks, torch.ones(K))
        hooks.after_epoch(epoch, {})
    _, found = combined(hooks, torch.full((K,), 0.5))
    assert found[2] < found[0]  # twice as far below its nadir


@pytest.mark.parametrize("scale", [0.0, 1e-10, 1e10])
def test_is_finite_for_losses_of_any_size(scale: float) -> None:
    hooks = prepared()
    for epoch in range(4):
        total, weights = combined(hooks, scale * torch.ones(K))
        assert total.isfinite()
        assert weights.isfinite().all()
        hooks.after_epoch(epoch, {})


def test_what_it_remembers_is_saved() -> None:
    names = set(prepared().plugins["plugin"].state_dict())
    assert names == {"method.sums", "method.counts", "method.nadir", "method.ended"}
