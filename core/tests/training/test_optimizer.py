"""The optimizer of an experiment: groups of plugins, momentum from the start, the norm of all gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl_core.errors import ContractError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.hooks.relay import Hooks
from mtl_core.training.optimizer import gradient_norm, make_optimizer


@plugin
class Learns(nn.Module):
    """A parameter with a rate of its own."""

    twice: bool = False

    @hookimpl
    def setup(self) -> None:
        self.weight = nn.Parameter(torch.ones(2))

    @hookimpl
    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return [{"params": [self.weight] * (2 if self.twice else 1), "lr": 10 * learning_rate}]


def parts(twice: bool = False) -> tuple[nn.Module, Hooks, Learns]:
    hooks = Hooks({"learns": Learns(twice=twice)}, required=())
    own = hooks.plugins["learns"]
    own.setup()
    module = nn.ModuleDict({"encoder": nn.Linear(3, 2), "own": own})
    module["encoder"].bias.requires_grad_(False)
    return module, hooks, own


def experiment(**settings: Any) -> Experiment:
    return Experiment(name="t", plugins={}, learning_rate=0.5, **settings)


def test_a_plugins_group_is_beside_the_main_one_and_what_is_frozen_in_none() -> None:
    module, hooks, own = parts()
    optimizer = make_optimizer(experiment(), module, hooks)
    found = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert found == {id(module["encoder"].weight): 0.5, id(own.weight): 5.0}


def test_a_parameter_in_two_groups_is_the_plugins_fault() -> None:
    module, hooks, _ = parts(twice=True)
    with pytest.raises(ContractError, match="parameter_groups: two plugins, or one plugin twice, named the same param"):
        make_optimizer(experiment(), module, hooks)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_momentum_is_there_before_the_first_step(momentum: float) -> None:
    module, hooks, own = parts()
    optimizer = make_optimizer(experiment(optimizer="sgd", momentum=momentum), module, hooks)
    kept = {id(p): state["momentum_buffer"] for p, state in optimizer.state.items()}
    assert set(kept) == ({id(module["encoder"].weight), id(own.weight)} if momentum else set())
    assert not any(buffer.any() for buffer in kept.values())


def test_the_norm_of_all_gradients_together() -> None:
    one, two, none = (torch.zeros(2, requires_grad=True) for _ in range(3))
    one.grad, two.grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert gradient_norm([one, two, none]) == 5
    two.grad = torch.tensor([0.0, float("inf")])
    norm: Tensor = gradient_norm([one, two, none])
    assert not norm.isfinite()
