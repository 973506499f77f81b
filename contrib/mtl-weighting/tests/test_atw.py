"""ATW: running means, the pace they give, and UW at an even pace."""

import math

import pytest
import torch
from torch import Tensor

from mtl_core.testing import Hooks, LossRuleContract, StubBackbone, make_step, make_tasks
from mtl_weighting.atw import ATW, _relative_paces
from mtl_weighting.uw import UW

TASKS = make_tasks()


class TestATW(LossRuleContract):
    @pytest.fixture
    def plugin(self) -> ATW:
        return ATW(sigma_learning_rate=0.01)


def prepared(rule: UW) -> Hooks:
    hooks = Hooks({"rule": rule}, required=())
    hooks.setup(TASKS, (8, 8), StubBackbone(width=4), lambda name: torch.manual_seed(0))
    return hooks


def combined(hooks: Hooks, means: list[float], share: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """The total of a step with these mean losses (NaN: absent), its gradient at the losses and at log σ."""
    found = torch.tensor(means)
    losses = (share * found).requires_grad_()
    total = hooks.combine_losses(losses, found, found.isfinite(), make_step(TASKS))
    return total, *torch.autograd.grad(total, (losses, hooks.plugins["rule"].log_sigma))


def running(values: list[float], length: int) -> float:
    """A plain mean of the first ``length`` values, an exponential one from then on."""
    mean = 0.0
    for count, value in enumerate(values, 1):
        mean += (value - mean) / min(count, length)
    return mean


def test_weights_are_those_of_uw_times_the_relative_pace() -> None:
    rows = [[4.0, 1.0, 0.5], [2.0, 1.2, 0.5], [1.0, 0.9, 0.5], [0.5, 1.1, 0.5], [0.4, 1.0, 0.5]]
    hooks = prepared(ATW(short=2, long=4, initial_sigma=0.5))
    for row in rows:
        _, by_loss, _ = combined(hooks, row)
    ratios = [running([r[k] for r in rows], 2) / running([r[k] for r in rows], 4) for k in range(3)]
    paces = [r / (sum(ratios) / 3) for r in ratios]
    torch.testing.assert_close(by_loss, torch.tensor(paces) / (2 * 0.5**2))
    assert by_loss[0] < by_loss[2]  # the loss that falls fast counts less


def test_running_means_are_plain_ones_until_they_are_full() -> None:
    hooks = prepared(ATW(short=3, long=100))
    for value in (1.0, 5.0, 3.0):
        combined(hooks, [value, value, value])
    rule = hooks.plugins["rule"]
    torch.testing.assert_close(rule.fast, torch.full((3,), 3.0))
    torch.testing.assert_close(rule.slow, torch.full((3,), 3.0))


def test_the_first_step_is_uw() -> None:
    for a, b in zip(*(combined(prepared(rule), [4.0, 1.0, 0.5]) for rule in (ATW(), UW())), strict=True):
        assert torch.equal(a, b)


def test_losses_that_change_alike_give_uw() -> None:
    """Only how a task changes beside the others counts, whatever the losses' sizes."""
    atw = prepared(ATW(short=2, long=5))
    uw = prepared(UW())
    for factor in (1.0, 0.6, 0.7, 0.3, 0.1):
        row = [4e3 * factor, 1.0 * factor, 5e-4 * factor]
        for a, b in zip(combined(atw, row), combined(uw, row), strict=True):
            torch.testing.assert_close(a, b)


def test_a_step_without_a_tasks_label_leaves_its_means_alone() -> None:
    nan = math.nan
    rare = prepared(ATW(short=2, long=4))
    dense = prepared(ATW(short=2, long=4))
    for row in ([4.0, 1.0, nan], [nan, nan, 0.5], [2.0, nan, 0.3], [nan, 1.2, nan]):
        combined(rare, row)
    for row in ([4.0, 1.0, 0.5], [2.0, 1.2, 0.3]):
        combined(dense, row)
    for name in ("fast", "slow", "count"):
        assert torch.equal(getattr(rare.plugins["rule"], name), getattr(dense.plugins["rule"], name))


def test_the_share_of_labels_does_not_matter() -> None:
    one = prepared(ATW(short=2, long=4))
    other = prepared(ATW(short=2, long=4))
    for n, row in enumerate(([4.0, 1.0, 0.5], [2.0, 1.2, 0.3], [1.0, 1.1, 0.6])):
        _, a, _ = combined(one, row)
        _, b, _ = combined(other, row, share=1 / (n + 2))
        torch.testing.assert_close(a, b)


def test_sigma_settles_at_the_mean_loss_whatever_the_pace() -> None:
    hooks = prepared(ATW(short=2, long=4))
    for row in ([4.0, 1.0, 0.5], [2.0, 1.0, 0.6]):
        combined(hooks, row)
    with torch.no_grad():
        hooks.plugins["rule"].log_sigma.copy_(torch.tensor([2.0, 1.0, 0.6]).log() / 2)
    _, by_loss, by_sigma = combined(hooks, [2.0, 1.0, 0.6])
    torch.testing.assert_close(by_sigma, torch.zeros(3), rtol=0, atol=1e-6)
    assert by_loss[0] * 2.0 < by_loss[1] < by_loss[2] * 0.6  # without a pace all three would be 1/2


def test_paces_have_mean_1_over_the_tasks_seen() -> None:
    fast = torch.tensor([1.0, 3.0, 7.0, 0.0])
    slow = torch.tensor([2.0, 2.0, 9.0, 0.0])
    found = _relative_paces(fast, slow, torch.tensor([True, True, False, False]))
    torch.testing.assert_close(found, torch.tensor([0.5, 1.5, 1.0, 1.0]))
    assert _relative_paces(torch.zeros(2), torch.zeros(2), torch.ones(2, dtype=torch.bool)).tolist() == [1, 1]
