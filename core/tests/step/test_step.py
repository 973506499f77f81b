"""What a plugin logs on a step."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from mtl_core.errors import ContractError
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.hooks.relay import Hooks
from mtl_core.step.step import Step
from mtl_core.testing.factories import make_step, make_tasks


@plugin
class Logs:
    """Logs whatever it is given."""

    value: Any = None

    @hookimpl
    def compute_regularizer(self, step: Step) -> None:
        step.log("size", self.value)


@pytest.mark.parametrize(
    ("value", "found"),
    [("large", "'large'"), (torch.ones(3), "torch.float32 (3,)"), (None, "None"), (0.5, "0.5")],
)
def test_what_is_no_scalar_is_refused_and_the_plugin_named(value: Any, found: str) -> None:
    message = f'step.log("size", ...) was given {found}, expected a scalar: a tensor of shape ()'
    with pytest.raises(ContractError, match=re.escape(message)) as error:
        Hooks({"mine": Logs(value=value)}, required=()).compute_regularizer(make_step(make_tasks()))
    assert error.value.__notes__ == ['in plugin "mine", hook compute_regularizer']


def test_a_scalar_is_kept_without_its_graph() -> None:
    step = make_step(make_tasks())
    Hooks({"mine": Logs(value=torch.ones((), requires_grad=True) * 2)}, required=()).compute_regularizer(step)
    assert step.logged["mine/size"] == 2
    assert not step.logged["mine/size"].requires_grad
