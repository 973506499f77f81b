"""DWA: the weights of an epoch, from the losses of the two before it."""

import math

import pytest
import torch
from torch import Tensor

from mtl_core.testing import Hooks, LossRuleContract, StubBackbone, make_step, make_tasks
from mtl_weighting.dwa import DWA, _average_weights

D = torch.float64
TASKS = make_tasks()


class TestDWA(LossRuleContract):
    @pytest.fixture
    def plugin(self) -> DWA:
        return DWA()


def prepared(**options: float) -> Hooks:
    hooks = Hooks({"dwa": DWA(**options)}, required=())
    hooks.setup(TASKS, (8, 8), StubBackbone(width=4), lambda name: torch.manual_seed(0))
    return hooks


def weights(hooks: Hooks, means: list[float], share: float = 1.0) -> Tensor:
    """Weights of one step with these mean losses; a task with NaN is absent."""
    found = torch.tensor(means)
    active = found.isfinite()
    losses = (share * found.nan_to_num(0)).requires_grad_()
    total = hooks.combine_losses(losses, found.nan_to_num(0), active, make_step(TASKS))
    return torch.autograd.grad(total, losses)[0]


def epochs(hooks: Hooks, *steps: list[list[float]]) -> Hooks:
    for epoch, means in enumerate(steps):
        for row in means:
            weights(hooks, row)
        hooks.after_epoch(epoch, {})
    return hooks


def by_hand(older: list[float], newer: list[float], temperature: float) -> list[float]:
    powers = [math.exp(b / a / temperature) for a, b in zip(older, newer, strict=True)]
    return [len(powers) * p / sum(powers) for p in powers]


def test_the_first_two_epochs_have_equal_weights() -> None:
    hooks = prepared()
    for epoch in range(2):
        assert weights(hooks, [3.0, 1.0, 0.2 * epoch + 0.1]).tolist() == [1, 1, 1]
        hooks.after_epoch(epoch, {})


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_then_a_softmax_of_the_ratios_of_the_epochs_means(temperature: float) -> None:
    steps = [[4.0, 1.0, 0.5], [2.0, 1.0, 0.7]], [[1.0, 2.0, 0.6], [0.5, 2.0, 0.2]], [[1.0, 1.0, 1.0], [0.2, 0.4, 0.6]]
    hooks = epochs(prepared(temperature=temperature), *steps[:2])
    expected = by_hand([3.0, 1.0, 0.6], [0.75, 2.0, 0.4], temperature)
    torch.testing.assert_close(weights(hooks, [1.0, 1.0, 1.0]), torch.tensor(expected))
    torch.testing.assert_close(weights(hooks, [0.2, 0.4, 0.6]), torch.tensor(expected))
    hooks.after_epoch(2, {})
    expected = by_hand([0.75, 2.0, 0.4], [0.6, 0.7, 0.8], temperature)
    torch.testing.assert_close(weights(hooks, [1.0, 1.0, 1.0]), torch.tensor(expected))


def test_is_torchjds() -> None:
    theirs = pytest.importorskip("torchjd.scalarization").DWA(2.0)
    rows = torch.rand(4, 3, 3, generator=torch.Generator().manual_seed(1)) + 0.1
    ours = prepared()
    for epoch, means in enumerate(rows):
        for row in means:
            losses = row.clone().requires_grad_()
            expected = torch.autograd.grad(theirs(losses), losses)[0]
            torch.testing.assert_close(weights(ours, row.tolist()), expected)
        theirs.step()
        ours.after_epoch(epoch, {})


def test_means_count_only_steps_in_which_the_task_was_active() -> None:
    nan = math.nan
    rare = epochs(prepared(), [[4.0, 1.0, nan], [nan, 3.0, 0.5]], [[2.0, nan, nan], [nan, 1.0, 0.4]])
    full = epochs(prepared(), [[4.0, 2.0, 0.5]], [[2.0, 1.0, 0.4]])
    torch.testing.assert_close(weights(rare, [1, 1, 1]), weights(full, [1, 1, 1]))


def test_a_task_without_labels_in_one_of_the_epochs_has_ratio_1() -> None:
    hooks = epochs(prepared(), [[4.0, 2.0, math.nan]], [[2.0, 1.0, 0.4]])
    torch.testing.assert_close(weights(hooks, [1, 1, 1]), torch.tensor(by_hand([4, 2, 1], [2, 1, 1], 2.0)))


def test_the_share_of_labels_does_not_matter() -> None:
    one = prepared()
    other = prepared()
    for epoch, row in enumerate(([4.0, 2.0, 1.0], [2.0, 1.9, 0.1])):
        weights(one, row)
        weights(other, row, share=0.3 / (epoch + 1))
        one.after_epoch(epoch, {})
        other.after_epoch(epoch, {})
    assert torch.equal(weights(one, [1, 1, 1]), weights(other, [1, 1, 1]))


@pytest.mark.parametrize("scale", [1e-10, 1e10])
def test_the_losses_size_does_not_matter(scale: float) -> None:
    history = torch.tensor([[4.0, 2.0, 1.0], [2.0, 1.9, 0.1]], dtype=D)
    scales = torch.tensor([scale, 1.0, 1.0], dtype=D)
    torch.testing.assert_close(_average_weights(history * scales, 2.0), _average_weights(history, 2.0))


def test_a_loss_that_was_zero_is_no_division_by_zero() -> None:
    found = _average_weights(torch.tensor([[0.0, 0.0, 2.0], [0.0, 1.0, 1.0]]), 2.0)
    torch.testing.assert_close(found, torch.tensor(by_hand([1, 1, 2], [1, 1, 1], 2.0)))
