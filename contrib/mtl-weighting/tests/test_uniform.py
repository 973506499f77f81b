"""Uniform: the plain sum."""

import pytest
import torch

from mtl_core.testing import Hooks, LossRuleContract, make_step, make_tasks
from mtl_weighting.uniform import Uniform


class TestUniform(LossRuleContract):
    @pytest.fixture
    def plugin(self) -> Uniform:
        return Uniform()


def test_is_what_core_does_without_a_rule() -> None:
    step = make_step(make_tasks())
    totals = [
        Hooks(plugins, required=()).combine_losses(step.task_losses, step.task_means, step.active, step)
        for plugins in ({"uniform": Uniform()}, {})
    ]
    assert torch.equal(*totals)
