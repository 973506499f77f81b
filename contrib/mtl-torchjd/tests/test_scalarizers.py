"""torchjd's scalarizers: as torchjd computes them, on the tasks that have a label."""

from __future__ import annotations

import attrs
import pytest
import torch
import torchjd.scalarization
from torch import Tensor

from mtl_core import Step
from mtl_core.testing import Hooks, LossRuleContract, StubBackbone, make_step, make_tasks
from mtl_torchjd import TorchJD, catalogue

HOST = {"test_runs_on_the_meta_device": "torchjd computes on the host: one round trip in each step"}
K = 3
PREFERENCE = (1.0, 2.0, 3.0)
SETTINGS = {
    "COSMOS": {"lambda_": 0.1, "weights": PREFERENCE},
    "Constant": {"weights": PREFERENCE},
    "PBI": {"theta": 0.1, "weights": PREFERENCE},
    "STCH": {"mu": 0.5},
}
ANGULAR = {"COSMOS", "PBI"}  # look at the angle of the losses, which 0 has none of


def make(name: str) -> TorchJD:
    return TorchJD(scalarizer=name, settings=SETTINGS.get(name, {}))


class TestEveryScalarizer(LossRuleContract):
    order_matters = True  # preferences are given by place
    skips = HOST

    @pytest.fixture(params=sorted(set(catalogue.scalarizers()) - ANGULAR - {"GeometricMean"}))
    def plugin(self, request: pytest.FixtureRequest) -> TorchJD:
        return make(request.param)


class TestThoseThatZeroStops(LossRuleContract):
    order_matters = True  # preferences are given by place
    skips = {
        **HOST,
        "test_is_finite_for_losses_of_any_size": "no angle and no logarithm of 0: the step is skipped and counted",
        "test_no_task_is_trained_against_its_loss": "an angle can be widened by a larger loss",
    }

    @pytest.fixture(params=[*sorted(ANGULAR), "GeometricMean"])
    def plugin(self, request: pytest.FixtureRequest) -> TorchJD:
        return make(request.param)


def prepared(plugin: TorchJD) -> Hooks:
    hooks = Hooks({"plugin": plugin}, required=())
    hooks.setup(make_tasks(), (32, 64), StubBackbone(width=4), lambda name: torch.manual_seed(0))
    return hooks


def with_losses(values: Tensor, active: Tensor, shares: Tensor | None = None, seed: int = 0) -> Step:
    """A step whose losses are leaves; L_t = share_t · L̄_t."""
    shares = torch.ones_like(values) if shares is None else shares
    losses = (values * shares * active).requires_grad_()
    return attrs.evolve(
        make_step(make_tasks(), seed=seed), task_losses=losses, task_means=values * active, active=active
    )


def combined(hooks: Hooks, step: Step) -> Tensor:
    return hooks.combine_losses(step.task_losses, step.task_means, step.active, step)


@pytest.mark.parametrize("name", sorted(catalogue.scalarizers()))
@pytest.mark.parametrize("mask", [[1, 1, 1], [0, 1, 1], [1, 0, 1], [0, 1, 0]])
def test_is_what_torchjd_computes_on_the_active_tasks(name: str, mask: list[int]) -> None:
    active = torch.tensor(mask).bool()
    values = torch.tensor([0.7, 1.3, 2.1])
    step = with_losses(values, active)
    total = combined(prepared(make(name)), step)
    class_ = getattr(torchjd.scalarization, name)
    count = int(active.sum())
    settings = {k: torch.tensor(v)[active] if isinstance(v, tuple) else v for k, v in SETTINGS.get(name, {}).items()}
    oracle = class_(count, **settings) if name in ("UW", "IMTLL", "FAMO") else class_(**settings)
    own = values[active].requires_grad_()
    torch.manual_seed(step.shared.initial_seed())
    expected = oracle(own)
    torch.testing.assert_close(total, expected)
    found = torch.autograd.grad(total, step.task_losses)[0]
    wanted = torch.autograd.grad(expected, own)[0]
    torch.testing.assert_close(found[active], wanted)
    assert not found[~active].any()


@pytest.mark.parametrize("name", sorted(catalogue.scalarizers()))
@pytest.mark.parametrize("mask", [[1, 1, 1], [1, 0, 1], [0, 0, 0]])
def test_logs_the_weight_of_every_task_that_has_a_label(name: str, mask: list[int]) -> None:
    active = torch.tensor(mask).bool()
    shares = torch.tensor([0.5, 1.0, 0.2])
    step = with_losses(torch.tensor([0.7, 1.3, 2.1]), active, shares)
    weights = torch.autograd.grad(combined(prepared(make(name)), step), step.task_losses)[0]
    expected = weights.masked_fill(~active, torch.nan)
    found = {f"plugin/weight/{task}": weight for task, weight in zip(step.tasks.names, expected, strict=True)}
    torch.testing.assert_close(step.logged, found, equal_nan=True)


@pytest.mark.parametrize("name", sorted(catalogue.scalarizers()))
def test_is_as_precise_as_the_losses(name: str) -> None:
    values = torch.tensor([0.7, 1.3, 2.1], dtype=torch.float64)
    everybody = torch.ones(K, dtype=torch.bool)
    step = with_losses(values, everybody)
    single = with_losses(values.float(), everybody)
    total = combined(prepared(make(name)), step)
    assert total.dtype == torch.float64
    torch.testing.assert_close(total.float(), combined(prepared(make(name)), single))


def test_settings_are_as_precise_as_the_losses() -> None:
    values = torch.ones(K, dtype=torch.float64)
    tenths = (0.1, 0.2, 0.3)
    hooks = prepared(TorchJD(scalarizer="Constant", settings={"weights": tenths}))
    assert combined(hooks, with_losses(values, values.bool())).item() == sum(tenths)


def test_weights_come_from_the_means_and_gradients_from_the_losses() -> None:
    """Half the labels of a task halve its share of the batch, and not the weight that its loss asks for."""
    active = torch.ones(K, dtype=torch.bool)
    values = torch.tensor([0.7, 1.3, 2.1])
    full = with_losses(values, active)
    half = with_losses(values, active, torch.tensor([0.5, 1.0, 1.0]))
    hooks = prepared(make("STCH"))
    gradients = [torch.autograd.grad(combined(hooks, step), step.task_losses)[0] for step in (full, half)]
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("name", ["UW", "IMTLL"])
def test_what_it_learns_joins_the_optimizer_and_the_checkpoint(name: str) -> None:
    hooks = prepared(make(name))
    (group,) = hooks.parameter_groups(1e-3)
    (parameter,) = group["params"]
    assert (parameter.shape, group["lr"], group["weight_decay"]) == ((K,), 1e-3, 0.0)
    combined(hooks, with_losses(torch.tensor([0.7, 1.3, 2.1]), torch.tensor([True, False, True]))).backward()
    assert parameter.grad is not None
    assert parameter.grad[1] == 0
    assert parameter.grad[[0, 2]].all()
    assert len(hooks.plugins["plugin"].state_dict()) == 1


def test_without_any_label_every_parameter_still_has_a_gradient() -> None:
    """DDP waits for it otherwise."""
    hooks = prepared(make("UW"))
    combined(hooks, with_losses(torch.ones(K), torch.zeros(K, dtype=torch.bool))).backward()
    (parameter,) = hooks.plugins["plugin"].parameters()
    assert parameter.grad is not None
    assert not parameter.grad.any()


def test_dwa_is_torchjds_over_epochs() -> None:
    hooks = prepared(make("DWA"))
    oracle = torchjd.scalarization.DWA()
    everybody = torch.ones(K, dtype=torch.bool)
    for epoch in range(4):
        for batch in range(3):
            values = torch.rand(K, generator=torch.Generator().manual_seed(10 * epoch + batch)) + 0.5
            torch.testing.assert_close(combined(hooks, with_losses(values, everybody)), oracle(values))
        hooks.after_epoch(epoch, {})
        oracle.step()


def test_dwa_averages_the_steps_in_which_a_task_had_a_label() -> None:
    hooks = prepared(make("DWA"))
    everybody = torch.ones(K, dtype=torch.bool)
    for factor in (1.0, 0.5):
        for mask in ([1, 1, 0], [1, 0, 1]):
            combined(hooks, with_losses(factor * torch.tensor([1.0, 2.0, 3.0]), torch.tensor(mask).bool()))
        hooks.after_epoch(0, {})
    step = with_losses(torch.ones(K), everybody)
    found = torch.autograd.grad(combined(hooks, step), step.task_losses)[0]
    torch.testing.assert_close(found, torch.ones(K))  # all fell by half
