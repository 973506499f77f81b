"""PCD: torchjd's, with a mean square norm and a count of steps for each task."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import PCDWeighting

from mtl_core import MtlError, Shaped
from mtl_core.testing import Hooks, StubBackbone, encoder_gradients, make_step, make_tasks, random_rows
from mtl_torchjd import TorchJD

EVERYBODY = torch.ones(3, dtype=torch.bool)


def prepared(plugin: TorchJD) -> Hooks:
    hooks = Hooks({"plugin": plugin}, required=())
    hooks.setup(make_tasks(), (32, 64), StubBackbone(width=4), lambda name: torch.manual_seed(0))
    return hooks


def stepped(hooks: Hooks, rows: Tensor) -> Tensor:
    """The weights of a step, whose state is kept."""
    answer = hooks.shape_encoder_gradient(encoder_gradients(rows, step=make_step(make_tasks())))
    assert isinstance(answer, Shaped)
    buffers = dict(hooks.plugins["plugin"].named_buffers())
    for name, value in answer.state.items():
        buffers[name].copy_(value)
    return answer.weights  # type: ignore[return-value]


def reached(step: int) -> Tensor:
    """The leader in every step, another task in every second, the last in every third."""
    return torch.tensor([True, step % 2 == 0, step % 3 == 2])


def mean(squares: list[Tensor], beta: float) -> Tensor:
    """torchjd's corrected mean of one row."""
    oracle = PCDWeighting(beta=beta)
    scales = [oracle._update_scales(square[None]) for square in squares]
    return scales[-1][0] ** -2 - oracle.eps


def scaled_by(means: Tensor, rows: Tensor) -> Tensor:
    """torchjd's weights where these are the mean square norms."""
    oracle = PCDWeighting(tau=0.9)
    oracle._update_scales = lambda squares: (means + oracle.eps).rsqrt()  # type: ignore[method-assign]
    return oracle(rows @ rows.T)


def test_a_task_that_is_reached_in_every_third_step_weighs_as_in_every_step() -> None:
    """Gradients that never change are their own mean, however often they are seen."""
    hooks = prepared(TorchJD(aggregator="PCD", settings={"tau": 0.9}, rescale=False))
    rows = random_rows(3)
    first = stepped(hooks, rows)
    assert first.all()
    for step in range(30):
        found = stepped(hooks, rows * reached(step)[:, None])
        if reached(step).all():
            torch.testing.assert_close(found, first, rtol=1e-9, atol=0)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999])
def test_scales_each_task_by_its_mean_over_the_steps_that_reached_it(beta: float) -> None:
    hooks = prepared(TorchJD(aggregator="PCD", settings={"tau": 0.9, "beta": beta}, rescale=False))
    squares: list[list[Tensor]] = [[], [], []]
    for step in range(12):
        rows = random_rows(3, seed=step)
        mask = reached(step)
        here = mask.nonzero().flatten().tolist()
        for k in here:
            squares[k].append(rows[k].square().sum())
        means = torch.stack([mean(squares[k], beta) for k in here])
        found = stepped(hooks, rows * mask[:, None])
        expected = scaled_by(means, rows[mask])
        torch.testing.assert_close(found[mask], expected, rtol=1e-9, atol=1e-12)
    assert hooks.plugins["plugin"].method._n_steps.tolist() == [12, 6, 4]


@pytest.mark.parametrize("mask", [[1, 1, 1], [0, 1, 1], [1, 1, 0]])
def test_tau_has_a_number_for_each_task_and_leaves_out_the_leaders(mask: list[int]) -> None:
    """7 is no fraction: torchjd would refuse it."""
    hooks = prepared(TorchJD(aggregator="PCD", primary="depth", settings={"tau": (0.2, 7.0, 0.9)}, rescale=False))
    rows = random_rows(3)
    others = [k for k in (0, 2) if mask[k]]
    order = [1, *others]
    oracle = PCDWeighting(tau=torch.tensor([0.2, 7.0, 0.9], dtype=torch.float64)[others])
    found = stepped(hooks, rows * torch.tensor(mask)[:, None])
    torch.testing.assert_close(found[order], oracle(rows[order] @ rows[order].T))


@pytest.mark.parametrize(
    ("tau", "message"),
    [((0.2, 0.9), "tau: 2 numbers; expected one for each of the 3 tasks"), ((0.2, 0.1, 7.0), "tau.*must be in")],
)
def test_a_wrong_tau_is_named_before_the_first_step(tau: tuple[float, ...], message: str) -> None:
    with pytest.raises(MtlError, match=message):
        prepared(TorchJD(aggregator="PCD", primary="depth", settings={"tau": tau}))
