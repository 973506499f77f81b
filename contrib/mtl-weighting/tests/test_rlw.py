"""RLW: draws that sum to 1, anew in every step."""

import pytest
import torch
from torch import Tensor

from mtl_core import Step, generator_for
from mtl_core.testing import Hooks, LossRuleContract, make_batch, make_step, make_tasks, masks
from mtl_weighting.rlw import RLW

TASKS = make_tasks()


class TestRLW(LossRuleContract):
    @pytest.fixture
    def plugin(self) -> RLW:
        return RLW()


def step_with(mask: str = "full") -> Step:
    return make_step(TASKS, make_batch(TASKS, masks(4, 3)[mask], size=(8, 8)))


def weights(step: Step, number: int, rank: int = 0) -> Tensor:
    step.shared = generator_for(7, "shared", number)
    step.generator = generator_for(7, "step", number, rank)
    total = Hooks({"rlw": RLW()}, required=()).combine_losses(step.task_losses, step.task_means, step.active, step)
    return torch.autograd.grad(total, step.task_losses, retain_graph=True)[0]


def test_weights_are_a_softmax_of_normal_draws() -> None:
    draws = torch.randn(3, generator=generator_for(7, "shared", 4))
    powers = draws.double().exp()
    torch.testing.assert_close(weights(step_with(), 4).double(), powers / powers.sum(), rtol=1e-5, atol=0)


def test_steps_differ_and_ranks_do_not() -> None:
    step = step_with()
    assert not torch.equal(weights(step, 4), weights(step, 5))
    assert torch.equal(weights(step, 4, rank=0), weights(step, 4, rank=1))


def test_an_absent_task_leaves_the_others_what_they_had_among_themselves() -> None:
    full = weights(step_with(), 4)
    absent = weights(step_with("absent"), 4)
    assert absent[0] == 0
    torch.testing.assert_close(absent[1:], full[1:] / full[1:].sum())


def test_on_average_tasks_count_the_same() -> None:
    step = step_with()
    mean = torch.stack([weights(step, number) for number in range(600)]).mean(0)
    torch.testing.assert_close(mean, torch.full((3,), 1 / 3), rtol=0, atol=0.03)
