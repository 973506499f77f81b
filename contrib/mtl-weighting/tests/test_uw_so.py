"""UW-SO: softmax of the inverse losses."""

import math

import pytest
import torch

from mtl_core.testing import Hooks, LossRuleContract, make_step, make_tasks
from mtl_weighting.uw_so import UWSO, inverse_weights

D = torch.float64
ALL = torch.ones(3, dtype=torch.bool)


class TestUWSO(LossRuleContract):
    @pytest.fixture
    def plugin(self) -> UWSO:
        return UWSO()


class TestSharp(LossRuleContract):
    @pytest.fixture
    def plugin(self) -> UWSO:
        return UWSO(temperature=1e-3)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 20.0])
def test_is_the_softmax_by_hand(temperature: float) -> None:
    means = [0.4, 2.5, 1.1]
    powers = [math.exp(1 / m / temperature) for m in means]
    expected = torch.tensor([p / sum(powers) for p in powers], dtype=D)
    torch.testing.assert_close(inverse_weights(torch.tensor(means, dtype=D), ALL, temperature), expected)


def test_with_a_large_temperature_weights_are_equal_and_with_a_small_one_the_smallest_loss_has_all() -> None:
    means = torch.tensor([0.4, 2.5, 1.1], dtype=D)
    torch.testing.assert_close(inverse_weights(means, ALL, 1e6), torch.full((3,), 1 / 3, dtype=D), rtol=1e-5, atol=0)
    torch.testing.assert_close(inverse_weights(means, ALL, 1e-3), torch.tensor([1.0, 0, 0], dtype=D))


def test_looks_at_means_and_weighs_losses() -> None:
    losses = torch.tensor([0.2, 0.5, 0.1], requires_grad=True)
    means = torch.tensor([0.4, 2.5, 1.1], requires_grad=True)
    total = Hooks({"uw-so": UWSO()}, required=()).combine_losses(losses, means, ALL, make_step(make_tasks()))
    expected = inverse_weights(means.detach(), ALL, 1.0)
    by_loss, by_mean = torch.autograd.grad(total, (losses, means), allow_unused=True)
    torch.testing.assert_close(by_loss, expected)
    assert by_mean is None  # the weights are constants


def test_an_absent_task_takes_no_weight_from_the_others() -> None:
    means = torch.tensor([0.01, 2.5, 1.1], dtype=D)
    found = inverse_weights(means, torch.tensor([False, True, True]), 1.0)
    assert found[0] == 0
    torch.testing.assert_close(found[1:], inverse_weights(means[1:], ALL[1:], 1.0))


@pytest.mark.parametrize("loss", [0.0, 1e-30, 1e30])
def test_extreme_losses_give_finite_weights(loss: float) -> None:
    found = inverse_weights(torch.tensor([loss, 1.0, 1.0]), ALL, 1e-3)
    assert found.isfinite().all()
    assert found.sum().item() == pytest.approx(1)
