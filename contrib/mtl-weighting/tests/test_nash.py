"""Nash-MTL: the bargain is solved, whatever the gradients."""

import math

import pytest
import torch
from torch import Tensor

from mtl_core import Shaped
from mtl_core.testing import (
    GradientShaperContract,
    Hooks,
    StubBackbone,
    bank,
    encoder_gradients,
    entering,
    make_tasks,
    random_rows,
)
from mtl_weighting.gramians import cosines, with_ridge
from mtl_weighting.nash import NashMTL, bargain

D = torch.float64


class TestShaper(GradientShaperContract):
    @pytest.fixture
    def plugin(self) -> NashMTL:
        return NashMTL()


class TestShaperThatKeepsItsWeights(GradientShaperContract):
    @pytest.fixture
    def plugin(self) -> NashMTL:
        return NashMTL(max_norm=0, update_every=4)


def alpha(rows: Tensor) -> Tensor:
    return bargain(rows @ rows.T, (rows != 0).any(1))


def hard_rows(tasks: int, kind: str) -> Tensor:
    b = random_rows(tasks)
    return {
        "random": b,
        "uneven": b * torch.logspace(-8, 8, tasks, dtype=D)[:, None],
        "nearly one direction": b[:1] + 1e-6 * b,
        "one direction": b[:1] * torch.arange(1, tasks + 1)[:, None],
        "nearly opposite": torch.cat((b[:1], 1e-3 * b[1:] - b[:1])),
        "sum is zero": torch.cat((b[:-1], -b[:-1].sum(0, keepdim=True))),
        "fewer dimensions than tasks": b * (torch.arange(b.shape[1]) < 2),
    }[kind]


KINDS = (
    "random", "uneven", "nearly one direction", "one direction", "nearly opposite", "sum is zero",
    "fewer dimensions than tasks",
)  # fmt: skip


@pytest.mark.parametrize("tasks", [2, 3, 7, 20])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_newton_converges(tasks: int, kind: str, dtype: torch.dtype) -> None:
    """C β ∘ β = 1 with the ridge on C, in every case that is hard: positive, finite, solved."""
    rows = hard_rows(tasks, kind).to(dtype)
    g = rows @ rows.T
    c = with_ridge(cosines(g, g.diagonal() != 0), dtype)
    beta = bargain(g, g.diagonal() != 0) * g.double().diagonal().sqrt()
    assert (beta > 0).all()
    assert (beta * (c @ beta) - 1).abs().max() < 1e-4


@pytest.mark.parametrize("kind", ["random", "uneven", "one direction"])
@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
def test_the_bargain_of_the_paper_holds(kind: str, scale: float) -> None:
    """G α = 1/α on the Gramian itself, without normalisation or ridge."""
    rows = hard_rows(4, kind) * scale
    found = alpha(rows)
    assert torch.allclose(rows @ (found @ rows) * found, torch.ones(4, dtype=D), rtol=1e-9)


def test_every_task_gains_and_the_product_of_gains_is_the_largest() -> None:
    """What the Nash solution is: of all directions of one length the one with the largest Π ⟨b_t, d⟩."""
    rows = random_rows(3)
    direction = alpha(rows) @ rows
    gains = rows @ direction
    assert (gains > 0).all()
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        others = direction + size * torch.randn(200, len(direction), dtype=D, generator=generator)
        others = others / others.norm(dim=1, keepdim=True) * direction.norm()
        products = (others @ rows.T).clamp(min=0).prod(1)
        assert (products <= gains.prod() * (1 + 1e-9)).all()


def test_orthogonal_gradients_enter_as_unit_vectors() -> None:
    rows = torch.diag(torch.tensor([2.0, 5.0, 0.1], dtype=D))
    assert torch.allclose(alpha(rows), 1 / rows.diagonal(), rtol=1e-8)


def test_two_tasks_by_hand() -> None:
    """Unit vectors with cosine c: β² (1 + c) = 1."""
    rows = torch.tensor([[1.0, 0.0], [-0.6, 0.8]], dtype=D)
    assert torch.allclose(alpha(rows), torch.full((2,), 0.4**-0.5, dtype=D), rtol=1e-8)


def test_order_of_the_tasks_does_not_matter() -> None:
    rows = random_rows(5)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert torch.allclose(alpha(rows[order]), alpha(rows)[order], rtol=1e-9)


def test_a_tasks_scale_changes_its_weight_alone() -> None:
    """Nash's axiom: what a gain is measured in does not matter."""
    rows = random_rows(3)
    sizes = torch.tensor([1e-4, 1.0, 1e4], dtype=D)
    assert torch.allclose(alpha(rows * sizes[:, None]) * sizes, alpha(rows), rtol=1e-8)


@pytest.mark.parametrize("absent", [0, 1, 3])
def test_unreached_rows_leave_the_others_as_if_alone(absent: int) -> None:
    rows = random_rows(4)
    kept = torch.arange(4) != absent
    found = alpha(rows * kept[:, None])
    assert found[absent] == 0
    assert torch.allclose(found[kept], alpha(rows[kept]), rtol=1e-8)


def test_nothing_reached_gives_zeros() -> None:
    assert alpha(random_rows(3) * 0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gramian_that_is_not_finite_gives_no_weights(value: float) -> None:
    rows = random_rows(3)
    g = rows @ rows.T
    g[1, 1] = value
    assert bargain(g, g.diagonal() != 0).isnan().all()


# The plugin


def prepared(**options: object) -> Hooks:
    hooks = Hooks({"nash": NashMTL(**options)}, required=())
    hooks.setup(make_tasks(), (8, 8), StubBackbone(width=4), lambda name: None)
    return hooks


def shape(hooks: Hooks, rows: Tensor) -> Shaped:
    """One step of which core keeps the state."""
    shaped = hooks.shape_encoder_gradient(encoder_gradients(rows))
    assert isinstance(shaped, Shaped)
    buffers = dict(hooks.plugins["nash"].named_buffers())
    for name, value in shaped.state.items():
        buffers[name].copy_(value)
    return shaped


@pytest.mark.parametrize(("max_norm", "expected"), [(0, math.sqrt(3)), (0.25, 0.25), (100, math.sqrt(3))])
def test_what_enters_has_norm_root_k_or_the_limit(max_norm: float, expected: float) -> None:
    for name in ("random", "conflicting", "uneven", "tiny", "huge"):
        gradients = bank()[name]
        shaped = prepared(max_norm=max_norm).shape_encoder_gradient(gradients)
        assert entering(gradients, shaped.weights).norm().item() == pytest.approx(expected, rel=1e-5), name


def test_gradients_that_oppose_one_another_enter_as_nothing() -> None:
    rows = torch.cat((random_rows(1), -2 * random_rows(1), 0 * random_rows(1)))
    gradients = encoder_gradients(rows)
    found = prepared().shape_encoder_gradient(gradients)
    assert entering(gradients, found.weights).norm() < 1e-3


def test_weights_are_kept_for_as_many_steps_as_asked() -> None:
    hooks = prepared(update_every=3, max_norm=0)
    batches = [random_rows(3, seed=s) for s in range(5)]
    found = [shape(hooks, rows).weights for rows in batches]
    for k, source in enumerate((0, 0, 0, 3, 3)):
        assert torch.allclose(found[k], alpha(batches[source]), rtol=1e-6), k


def test_another_set_of_tasks_is_solved_for_at_once() -> None:
    """Weights belong to the tasks that bargained; the count starts anew with them."""
    hooks = prepared(update_every=3, max_norm=0)
    pair = torch.tensor([[1], [1], [0]])
    full = torch.tensor([[1], [1], [1]])
    batches = [random_rows(3, seed=s) * m for s, m in enumerate((full, pair, pair, pair, pair, full))]
    found = [shape(hooks, rows).weights for rows in batches]
    for k, source in enumerate((0, 1, 1, 1, 4, 5)):
        assert torch.allclose(found[k], alpha(batches[source]), rtol=1e-6), k


def test_a_batch_that_reached_nothing_leaves_what_is_kept() -> None:
    hooks = prepared(update_every=4, max_norm=0)
    first = random_rows(3)
    second = random_rows(3, seed=1)
    shape(hooks, first)
    assert shape(hooks, 0 * first).weights.tolist() == [0, 0, 0]
    for _ in range(3):
        assert torch.allclose(shape(hooks, second).weights, alpha(first), rtol=1e-6)
    assert torch.allclose(shape(hooks, second).weights, alpha(second), rtol=1e-6)


def test_a_run_that_begins_with_such_a_batch_begins_with_the_next() -> None:
    hooks = prepared(update_every=4, max_norm=0)
    rows = random_rows(3)
    assert shape(hooks, 0 * rows).weights.tolist() == [0, 0, 0]
    assert torch.allclose(shape(hooks, rows).weights, alpha(rows), rtol=1e-6)


def test_kept_weights_are_limited_on_the_new_gradients() -> None:
    hooks = prepared(update_every=2)
    shape(hooks, random_rows(3))
    rows = random_rows(3, seed=1) * 1e3
    assert (shape(hooks, rows).weights @ rows).norm().item() == pytest.approx(1)


def test_state_goes_on_where_it_was_saved() -> None:
    hooks = prepared(update_every=3)
    batches = [random_rows(3, seed=s) for s in range(6)]
    for rows in batches[:2]:
        shape(hooks, rows)
    other = prepared(update_every=3)
    other.plugins["nash"].load_state_dict(hooks.plugins["nash"].state_dict())
    for rows in batches[2:]:
        assert torch.equal(shape(hooks, rows).weights, shape(other, rows).weights)


@pytest.mark.parametrize("options", [{"max_norm": -1}, {"update_every": 0}, {"iterations": 0}])
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        NashMTL(**options)
