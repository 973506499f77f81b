"""UW: the loss and where σ settles."""

import importlib

import pytest
import torch
from torch import Tensor

from mtl_core import hookimpl, plugin
from mtl_core.testing import Hooks, LossRuleContract, StubBackbone, make_batch, make_step, make_tasks, masks
from mtl_weighting.rules import shares, uncertainty_terms
from mtl_weighting.uw import UW

D = torch.float64


class TestUW(LossRuleContract):
    @pytest.fixture
    def plugin(self) -> UW:
        return UW(initial_sigma=0.8, sigma_learning_rate=0.01)


def total(losses: Tensor, means: Tensor, log_sigma: Tensor) -> Tensor:
    active = torch.ones_like(losses, dtype=torch.bool)
    return uncertainty_terms(losses, shares(losses, means, active), log_sigma).sum()


def test_with_every_label_it_is_the_published_sum_and_its_gradients() -> None:
    losses = torch.tensor([0.3, 2.0, 5.0], dtype=D, requires_grad=True)
    sigma = [0.5, 1.0, 3.0]
    log_sigma = torch.tensor(sigma, dtype=D).log().requires_grad_()
    found = total(losses, losses, log_sigma)
    by_hand = sum(x / (2 * s**2) for x, s in zip(losses.tolist(), sigma, strict=True))
    torch.testing.assert_close(found, by_hand + log_sigma.sum())
    by_loss, by_sigma = torch.autograd.grad(found, (losses, log_sigma))
    torch.testing.assert_close(by_loss, torch.tensor([1 / (2 * s**2) for s in sigma], dtype=D))
    slope = [1 - x / s**2 for x, s in zip(losses.tolist(), sigma, strict=True)]
    torch.testing.assert_close(by_sigma, torch.tensor(slope, dtype=D))


@pytest.mark.parametrize(("kind", "share"), [(torch.optim.Adam, 1 / 2), (torch.optim.SGD, 1 / 4)])
def test_goes_libmtls_way_with_its_start_and_a_part_of_its_learning_rate(kind: type, share: float) -> None:
    """LibMTL: s = log σ² from −0.5, the loss L / (2 eˢ) + s / 2; docs/methods/uw.md gives the settings."""
    rate = 0.02
    s = torch.full((3,), -0.5, dtype=D, requires_grad=True)
    log_sigma = torch.full((3,), 0.7788, dtype=D).log().requires_grad_()
    theirs = kind([s], lr=rate)
    ours = kind([log_sigma], lr=share * rate)
    for step in range(5):
        losses = torch.tensor([0.3, 2.0, 5.0], dtype=D) / (1 + step)
        (losses / (2 * s.exp()) + s / 2).sum().backward()
        total(losses, losses, log_sigma).backward()
        for optimizer in (theirs, ours):
            optimizer.step()
            optimizer.zero_grad()
        torch.testing.assert_close(log_sigma, s / 2, rtol=0, atol=2e-5)


def test_is_torchjds() -> None:
    scalarization = pytest.importorskip("torchjd.scalarization")
    theirs = scalarization.UW(3).double()
    log_sigma = torch.tensor([-0.4, 0.0, 0.7], dtype=D, requires_grad=True)
    theirs.log_var.data = 2 * log_sigma.detach()
    losses = torch.tensor([0.3, 2.0, 5.0], dtype=D, requires_grad=True)
    ours = total(losses, losses, log_sigma)
    other = theirs(losses)
    torch.testing.assert_close(ours, other)
    torch.testing.assert_close(*(torch.autograd.grad(t, losses)[0] for t in (ours, other)))
    slope = torch.autograd.grad(total(losses, losses, log_sigma), log_sigma)[0]
    torch.testing.assert_close(slope, 2 * torch.autograd.grad(theirs(losses), theirs.log_var)[0])


@pytest.mark.parametrize("share", [1.0, 0.25, 0.01])
def test_sigma_settles_at_the_mean_loss_whatever_the_share_of_labels(share: float) -> None:
    means = torch.tensor([0.09, 4.0], dtype=D)
    log_sigma = torch.zeros(2, dtype=D, requires_grad=True)
    optimizer = torch.optim.Adam([log_sigma], lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        total(share * means, means, log_sigma).backward()
        optimizer.step()
    torch.testing.assert_close(log_sigma.exp() ** 2, means, rtol=1e-3, atol=0)


def test_sigma_has_its_own_learning_rate_and_no_weight_decay() -> None:
    hooks = prepared(UW(sigma_learning_rate=0.3))
    (group,) = hooks.parameter_groups(1e-4)
    assert (group["lr"], group["weight_decay"]) == (0.3, 0)
    assert prepared(UW()).parameter_groups(1e-4)[0]["lr"] == 1e-4


def test_an_absent_task_gives_its_sigma_no_gradient_and_momentum_goes_on() -> None:
    log_sigma = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([log_sigma], lr=0.1)
    losses = torch.tensor([3.0, 3.0])
    for active in (torch.tensor([True, True]), torch.tensor([True, False])):
        before = log_sigma.detach().clone()
        optimizer.zero_grad()
        present = torch.where(active, losses, torch.zeros(2))
        total(present, present, log_sigma).backward()
        optimizer.step()
    assert log_sigma.grad is not None
    assert log_sigma.grad[1] == 0
    assert log_sigma[1] > before[1]


def test_weights_start_at_the_given_sigma() -> None:
    tasks = make_tasks()
    step = make_step(tasks, make_batch(tasks, masks(4, 3)["full"], size=(8, 8)))
    hooks = prepared(UW(initial_sigma=0.5))
    found = hooks.combine_losses(step.task_losses, step.task_means, step.active, step)
    torch.testing.assert_close(torch.autograd.grad(found, step.task_losses)[0], torch.full((3,), 2.0))


@plugin
class Other:
    """Combines the losses."""

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses.sum()


def prepared(uw: UW, *others: object, use: dict[str, str] | None = None) -> Hooks:
    hooks = Hooks({"uw": uw, **{f"other{i}": other for i, other in enumerate(others)}}, use or {}, required=())
    hooks.setup(make_tasks(), (8, 8), StubBackbone(width=4), lambda name: torch.manual_seed(0))
    return hooks


@pytest.mark.parametrize("kind", ["uw:UW", "atw:ATW", "miraliev:Miraliev"])
def test_learns_nothing_where_another_rule_was_chosen(kind: str) -> None:
    """DDP would wait for the gradient of a parameter that nothing uses."""
    module, _, name = kind.partition(":")
    rule = getattr(importlib.import_module(f"mtl_weighting.{module}"), name)()
    hooks = prepared(rule, Other(), use={"combine_losses": "other0"})
    assert not list(hooks.plugins["uw"].parameters())
    assert hooks.parameter_groups(1e-4) == []
