"""What holds for every rule of this distribution that combines losses and nothing else."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn

from mtl_core import Step
from mtl_core.testing import (
    Hooks,
    ResumeContract,
    StubBackbone,
    make_batch,
    make_step,
    make_tasks,
    masks,
    with_losses,
)
from mtl_weighting.atw import ATW
from mtl_weighting.dwa import DWA
from mtl_weighting.fixed_weights import FixedWeights
from mtl_weighting.miraliev import Miraliev
from mtl_weighting.puw import PUW
from mtl_weighting.rlw import RLW
from mtl_weighting.rules import shares, softmax_over
from mtl_weighting.uniform import Uniform
from mtl_weighting.uw import UW
from mtl_weighting.uw_so import UWSO

RULES: dict[str, Callable[[], Any]] = {
    "uniform": Uniform,
    "fixed-weights": lambda: FixedWeights(primary="depth", weights={"normals": 0.3}),
    "uw": lambda: UW(sigma_learning_rate=0.01),
    "dwa": DWA,
    "rlw": RLW,
    "uw-so": UWSO,
    "atw": lambda: ATW(sigma_learning_rate=0.01, short=2, long=5),
    "miraliev": lambda: Miraliev(sigma_learning_rate=0.01, objectives=("dice", "gradient")),
    "puw": lambda: PUW(particles=2, warmup_epochs=1),
}
TASKS = make_tasks()
JUDGED = {f"val/{task.name}/{task.headline}": 0.5 for task in TASKS}
EPOCHS = ("history", "before")
"""Buffers of earlier epochs: NaN where there was none."""
DRAWN = ("rlw", "puw")
"""Rules whose weights are drawn, one task after another."""
every = pytest.mark.parametrize("name", RULES)


def prepared(name: str, tasks: tuple[str, ...] = TASKS.names) -> Hooks:
    hooks = Hooks({name: RULES[name]()}, required=())
    hooks.setup(make_tasks(*tasks), (8, 8), StubBackbone(width=4), lambda name: torch.manual_seed(0))
    return hooks


def step_with(mask: str = "full", seed: int = 0) -> Step:
    return make_step(TASKS, make_batch(TASKS, masks(4, 3)[mask], size=(8, 8), seed=seed), seed=seed)


def combined(hooks: Hooks, step: Step) -> tuple[Tensor, Tensor]:
    """The total, and its gradient at the losses."""
    total = hooks.combine_losses(step.task_losses, step.task_means, step.active, step)
    return total, torch.autograd.grad(total, step.task_losses, retain_graph=True)[0]


def lived(hooks: Hooks, change: Callable[[Step], Step] = lambda step: step) -> Hooks:
    """The same rule after three epochs of two steps."""
    for epoch in range(3):
        for seed in (2 * epoch, 2 * epoch + 1):
            combined(hooks, change(step_with("one label" if seed % 2 else "full", seed)))
        hooks.after_epoch(epoch, JUDGED)
    return hooks


@every
def test_what_an_absent_task_holds_reaches_nothing(name: str) -> None:
    step = step_with("absent")
    away = torch.tensor([torch.nan, 0, 0])
    spoilt = attrs.evolve(step, task_losses=step.task_losses + away, task_means=step.task_means + away)
    hooks = prepared(name)
    clean = prepared(name)
    total, weights = combined(hooks, spoilt)
    expected, clean_weights = combined(clean, step_with("absent"))
    assert torch.equal(total, expected)
    assert torch.equal(weights, clean_weights)
    assert weights[0] == 0
    total.backward()
    learned = hooks.plugins[name]
    if isinstance(learned, nn.Module):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in learned.parameters())
        assert all(b.isfinite().all() or n in EPOCHS for n, b in learned.named_buffers())


@every
def test_a_loss_that_is_infinite_leaves_no_trace_in_statistics(name: str) -> None:
    """Its gradient may be finite, and the step is then taken."""
    hooks = prepared(name)
    step = step_with()
    combined(hooks, attrs.evolve(step, task_means=step.task_means + torch.tensor([torch.inf, 0, 0])))
    hooks.after_epoch(0, JUDGED)
    learned = hooks.plugins[name]
    buffers = dict(learned.named_buffers()) if isinstance(learned, nn.Module) else {}
    assert [n for n, b in buffers.items() if b.isinf().any()] == []
    assert combined(hooks, step_with())[0].isfinite()


def turned(step: Step) -> Step:
    """The same step with the tasks in the opposite order."""
    tasks = step.tasks.select(step.tasks.names[::-1])
    flipped = step.labelled.flip(1)
    return with_losses(attrs.evolve(step, tasks=tasks, labelled=flipped))


@pytest.mark.parametrize("name", [name for name in RULES if name not in DRAWN])
def test_the_order_of_the_tasks_does_not_matter(name: str) -> None:
    there = lived(prepared(name))
    back = lived(prepared(name, TASKS.names[::-1]), turned)
    total, weights = combined(there, step_with("one label", 9))
    other, turned_weights = combined(back, turned(step_with("one label", 9)))
    torch.testing.assert_close(other, total)
    torch.testing.assert_close(turned_weights.flip(0), weights)


@every
def test_weights_are_seen_in_the_log(name: str) -> None:
    hooks = lived(prepared(name))
    step = step_with("absent")
    _, weights = combined(hooks, step)
    logged = {task: step.logged.get(f"{name}/weight/{task}") for task in TASKS.names}
    if name in ("uniform", "fixed-weights"):
        assert not step.logged  # they never change
        return
    assert logged["segmentation"].isnan()  # which an epoch's mean leaves out
    for k, task in enumerate(TASKS.names[1:], 1):
        torch.testing.assert_close(logged[task], weights[k])


class TestRemembers(ResumeContract):
    """No rule loses anything in a stopped run, and none keeps anything of a skipped step."""

    @pytest.fixture(params=RULES)
    def plugin(self, request: pytest.FixtureRequest) -> object:
        return RULES[request.param]()


def test_shares_are_constants_that_are_0_where_there_is_nothing_to_divide() -> None:
    losses = torch.tensor([0.5, 0.0, torch.nan, 3.0], requires_grad=True)
    means = torch.tensor([2.0, 0.0, torch.nan, 3.0], requires_grad=True)
    found = shares(losses, means, torch.tensor([True, True, False, True]))
    assert found.tolist() == [0.25, 0, 0, 1]
    assert not found.requires_grad


def test_softmax_goes_over_the_active_tasks_alone() -> None:
    values = torch.tensor([3.0, torch.nan, -1.0, 0.5])
    active = torch.tensor([True, False, True, True])
    found = softmax_over(values, active)
    assert found[1] == 0
    torch.testing.assert_close(found[active], values[active].softmax(0))
    assert softmax_over(values, torch.zeros(4, dtype=torch.bool)).tolist() == [0, 0, 0, 0]
