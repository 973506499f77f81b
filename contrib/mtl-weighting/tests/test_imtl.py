"""IMTL: the losses' scales, and equal projections."""

import importlib

import pytest
import torch
from torch import Tensor

from mtl_core import ExperimentError, hookimpl, plugin
from mtl_core.testing import (
    GradientShaperContract,
    Hooks,
    LossRuleContract,
    StubBackbone,
    bank,
    encoder_gradients,
    entering,
    make_tasks,
    random_rows,
)
from mtl_weighting.imtl import IMTL, impartial_gradients, scaled_losses

D = torch.float64


class TestLosses(LossRuleContract):
    @pytest.fixture
    def plugin(self) -> IMTL:
        return IMTL(scale_learning_rate=0.01)


class TestLossesAlone(LossRuleContract):
    @pytest.fixture
    def plugin(self) -> IMTL:
        return IMTL(parts="losses")


class TestGradients(GradientShaperContract):
    @pytest.fixture
    def plugin(self) -> IMTL:
        return IMTL()


@plugin
class Other:
    """Fills both places."""

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses.sum()

    @hookimpl
    def shape_encoder_gradient(self, gradients: object) -> Tensor:
        return torch.ones(3)


def weights(rows: Tensor) -> Tensor:
    return impartial_gradients(rows @ rows.T, (rows != 0).any(1))


def projections(rows: Tensor, alpha: Tensor) -> Tensor:
    """⟨Σ α b, b_t/‖b_t‖⟩ of every row."""
    return rows @ (alpha @ rows) / rows.norm(dim=1)


def closed_form(rows: Tensor) -> Tensor:
    """The paper's: (α_2 … α_K) = b_1 Uᵀ (D Uᵀ)⁻¹ with D = b_1 − b_t, U = u_1 − u_t, α_1 what is left to 1."""
    units = rows / rows.norm(dim=1, keepdim=True)
    d = rows[0] - rows[1:]
    u = units[0] - units[1:]
    rest = rows[0] @ u.T @ torch.linalg.inv(d @ u.T)
    return torch.cat(((1 - rest.sum())[None], rest))


@pytest.mark.parametrize("tasks", [2, 3, 7])
def test_projections_onto_every_task_are_equal(tasks: int) -> None:
    rows = random_rows(tasks) * torch.logspace(-2, 2, tasks, dtype=D)[:, None]
    alpha = weights(rows)
    found = projections(rows, alpha)
    assert torch.allclose(found, found[:1].expand(tasks), rtol=1e-7)
    assert alpha.sum().item() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_is_the_closed_form_of_the_paper(seed: int) -> None:
    rows = random_rows(4, seed=seed)
    assert torch.allclose(weights(rows), closed_form(rows), rtol=1e-7)


def test_is_that_of_torchjd() -> None:
    aggregation = pytest.importorskip("torchjd.aggregation", reason="torchjd is not installed")
    module = importlib.import_module(aggregation.IMTLG.__module__)
    rows = random_rows(4)
    assert torch.allclose(weights(rows), module.IMTLGWeighting()(rows @ rows.T), rtol=1e-7)


def test_order_of_the_tasks_does_not_matter() -> None:
    rows = random_rows(5)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert torch.allclose(weights(rows[order]), weights(rows)[order], rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-10, 1e10])
def test_scale_of_all_gradients_does_not_matter(scale: float) -> None:
    rows = random_rows(4)
    assert torch.allclose(weights(rows * scale), weights(rows), rtol=1e-9)


def test_a_larger_gradient_of_one_task_takes_no_more_part() -> None:
    """α_t ‖b_t‖ stay in the same proportion."""
    rows = random_rows(3)
    sizes = torch.tensor([1.0, 1e4, 1e-3], dtype=D)
    plain = weights(rows) * rows.norm(dim=1)
    other = weights(rows * sizes[:, None]) * rows.norm(dim=1) * sizes
    assert torch.allclose(plain / plain.sum(), other / other.sum(), rtol=1e-7)


@pytest.mark.parametrize("absent", [0, 1, 3])
def test_unreached_rows_leave_the_others_as_if_alone(absent: int) -> None:
    rows = random_rows(4)
    kept = torch.arange(4) != absent
    found = weights(rows * kept[:, None])
    assert found[absent] == 0
    assert torch.allclose(found[kept], weights(rows[kept]), rtol=1e-12)


def test_parallel_gradients_are_shared_out() -> None:
    rows = random_rows(1) * torch.tensor([[1.0], [2.0], [4.0]], dtype=D)
    alpha = weights(rows)
    assert torch.allclose(alpha, torch.tensor([4.0, 2.0, 1.0], dtype=D) / 7, rtol=1e-4)


def test_opposite_gradients_cancel() -> None:
    rows = torch.cat((random_rows(1), -3 * random_rows(1)))
    alpha = weights(rows)
    assert torch.allclose(alpha, torch.tensor([0.75, 0.25], dtype=D), rtol=1e-6)
    assert (alpha @ rows).norm() < 1e-6 * rows.norm()


def test_one_task_enters_as_it_is_and_none_at_all_gives_zeros() -> None:
    rows = random_rows(3)
    assert weights(rows * torch.tensor([[0], [1], [0]])).tolist() == pytest.approx([0, 1, 0])
    assert weights(rows * 0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gramian_that_is_not_finite_gives_no_weights(value: float) -> None:
    rows = random_rows(3)
    g = rows @ rows.T
    g[1, 1] = value
    assert impartial_gradients(g, g.diagonal() != 0).isnan().all()


def test_single_precision_gives_nearly_the_same() -> None:
    for (name, single), double in zip(bank(dtype=torch.float32).items(), bank().values(), strict=True):
        found = [entering(g, impartial_gradients(g.gramian, g.reached)) for g in (single, double)]
        assert torch.allclose(found[0].double(), found[1], rtol=0.02, atol=0.02 * found[1].norm().item()), name


# IMTL-L


def test_scale_settles_where_every_scaled_loss_is_one() -> None:
    """With few labels too: L_t is a tenth of L̄_t here."""
    s = torch.zeros(3, requires_grad=True)
    means = torch.tensor([0.2, 3.0, 40.0])
    optimizer = torch.optim.Adam([s], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        scaled_losses(means / 10, means, torch.ones(3).bool(), s).backward()
        optimizer.step()
    assert torch.allclose(s.detach().exp() * means, torch.ones(3), rtol=1e-2)


def test_value_and_gradients_by_hand() -> None:
    losses = torch.tensor([1.0, 2.0, 0.0], requires_grad=True)
    s = torch.tensor([0.5, -1.0, 2.0], requires_grad=True)
    total = scaled_losses(losses, torch.tensor([2.0, 2.0, 0.0]), torch.tensor([True, True, False]), s)
    e = torch.tensor([0.5, -1.0]).exp()
    assert total.item() == pytest.approx(float(e[0] - 0.5 * 0.5 + 2 * e[1] + 1))
    total.backward()
    assert losses.grad.tolist() == pytest.approx([float(e[0]), float(e[1]), 0])
    assert s.grad.tolist() == pytest.approx([float(e[0]) - 0.5, 2 * float(e[1]) - 1, 0])


def test_with_every_label_it_is_torchjds_sum() -> None:
    scalarization = pytest.importorskip("torchjd.scalarization", reason="torchjd is not installed")
    theirs = scalarization.IMTLL(3)
    means = torch.tensor([0.5, 2.0, 8.0])
    with torch.no_grad():
        theirs.log_scale.copy_(torch.tensor([0.3, -0.2, 0.1]))
    found = scaled_losses(means, means, torch.ones(3).bool(), theirs.log_scale)
    assert found.item() == pytest.approx(theirs(means).item())


# Its two halves


def hooks(parts: str, *others: object, **use: str) -> Hooks:
    made = Hooks({"imtl": IMTL(parts=parts), **{f"other{i}": o for i, o in enumerate(others)}}, use, required=())
    made.setup(make_tasks(), (8, 8), StubBackbone(width=4), lambda name: None)
    return made


@pytest.mark.parametrize(
    ("parts", "filled"),
    [
        ("both", {"combine_losses", "shape_encoder_gradient"}),
        ("losses", {"combine_losses"}),
        ("gradients", {"shape_encoder_gradient"}),
    ],
)
def test_fills_only_the_places_of_its_parts(parts: str, filled: set[str]) -> None:
    assert set(hooks(parts).places) == filled


def test_a_half_leaves_the_other_place_to_another_plugin() -> None:
    with pytest.raises(ExperimentError, match="shape_encoder_gradient: imtl and other0"):
        hooks("gradients", Other())
    places = hooks("losses", Other(), combine_losses="imtl").places
    assert places == {"combine_losses": "imtl", "shape_encoder_gradient": "other0"}


def test_nothing_is_learned_where_another_plugin_combines() -> None:
    made = hooks("both", Other(), combine_losses="other0", shape_encoder_gradient="imtl")
    assert not list(made.plugins["imtl"].parameters())
    assert made.parameter_groups(1e-3) == []
    assert made.shape_encoder_gradient(encoder_gradients(random_rows(3))).shape == (3,)


@pytest.mark.parametrize(("own", "expected"), [(None, 0.5), (1e-3, 1e-3)])
def test_scales_have_their_own_learning_rate_if_asked_and_never_decay(own: float | None, expected: float) -> None:
    made = Hooks({"imtl": IMTL(scale_learning_rate=own)}, required=())
    made.setup(make_tasks(), (8, 8), StubBackbone(width=4), lambda name: None)
    (group,) = made.parameter_groups(0.5)
    assert [id(p) for p in group["params"]] == [id(made.plugins["imtl"].log_scale)]
    assert (group["lr"], group["weight_decay"]) == (expected, 0)


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(ValueError, match="parts"):
        IMTL(parts="loss")
