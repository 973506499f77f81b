"""The formulas: every number here is worked out by hand or in another way than the code's."""

import math

import pytest
import torch

from mtl_ial import encoder_weight, impartial_weights, inverse, uncertainty_loss
from mtl_ial.rules import Reference, primary_coefficients, primary_norm

D = torch.float64
YES = torch.ones(3, dtype=torch.bool)
FIRST = torch.tensor([True, False, False])


def rows(seed: int = 0) -> torch.Tensor:
    return torch.randn(3, 7, dtype=D, generator=torch.Generator().manual_seed(seed))


def entering(b: torch.Tensor, primary: torch.Tensor = FIRST, active: torch.Tensor = YES, **options) -> torch.Tensor:
    """Weights of the branches ``b`` (K, D), by default with f = (·, 0.3, 0.6) and decoder weights of 1."""
    given = {"weights": torch.tensor([0.9, 0.3, 0.6], dtype=D), "decoder_weights": torch.ones(3, dtype=D)} | options
    return impartial_weights(b @ b.T, given.pop("weights"), primary, given.pop("decoder_weights"), active, **given)


@pytest.mark.parametrize(("sigma", "weight"), [(0.9, 0.1), (0.4, 0.6), (1.0, 0.0), (3.0, 0.0), (0.0, 1.0)])
def test_relu_weight_is_one_minus_sigma_within_0_and_1(sigma: float, weight: float) -> None:
    assert encoder_weight(torch.tensor(sigma, dtype=D)).item() == pytest.approx(weight, abs=1e-12)


def test_softplus_weight_never_vanishes_and_never_exceeds_one() -> None:
    sigma = torch.tensor([0.01, 1.0, 5.0], dtype=D)
    expected = [1.0, math.log(2), math.log(1 + math.exp(-4))]
    assert encoder_weight(sigma, "softplus").tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("mapping", ["relu", "softplus"])
@pytest.mark.parametrize("weight", [0.01, 0.1, 0.6, 0.99])
def test_inverse_gives_the_sigma_of_a_weight(mapping: str, weight: float) -> None:
    sigma = torch.tensor(inverse(weight, mapping), dtype=D)
    assert encoder_weight(sigma, mapping).item() == pytest.approx(weight, abs=1e-12)


def test_uncertainty_loss_with_all_labels_is_the_papers() -> None:
    losses = torch.tensor([2.0, 0.5], dtype=D, requires_grad=True)
    log_sigma = torch.tensor([0.0, math.log(2)], dtype=D, requires_grad=True)
    total = uncertainty_loss(losses, losses, torch.tensor([True, True]), log_sigma)
    # 2/(2·1) + log 1 + 0.5/(2·4) + log 2
    assert total.item() == pytest.approx(1 + 0.0625 + math.log(2), abs=1e-12)
    total.backward()
    assert losses.grad.tolist() == pytest.approx([1 / 2, 1 / 8], abs=1e-12)
    # Eq. 4 times σ: −L/σ² + 1
    assert log_sigma.grad.tolist() == pytest.approx([-2 / 1 + 1, -0.5 / 4 + 1], abs=1e-12)


def test_sigma_follows_the_mean_loss_and_not_the_share_of_labels() -> None:
    means = torch.tensor([4.0, 4.0], dtype=D)
    losses = means * torch.tensor([0.25, 1.0], dtype=D)
    log_sigma = torch.full((2,), math.log(2), dtype=D, requires_grad=True)
    uncertainty_loss(losses, means, torch.tensor([True, True]), log_sigma).backward()
    assert log_sigma.grad.tolist() == pytest.approx([0, 0], abs=1e-12)  # σ² = L̄ is at rest for both


def test_an_absent_task_moves_nothing() -> None:
    losses = torch.tensor([1.0, 0.0], dtype=D, requires_grad=True)
    log_sigma = torch.tensor([0.3, 0.3], dtype=D, requires_grad=True)
    total = uncertainty_loss(losses, losses, torch.tensor([True, False]), log_sigma)
    alone = uncertainty_loss(losses[:1], losses[:1], torch.tensor([True]), log_sigma[:1])
    total.backward()
    assert total.item() == alone.item()
    assert log_sigma.grad[1].item() == 0 == losses.grad[1].item()
    assert log_sigma.grad[0].item() != 0


def test_a_loss_of_zero_is_no_division_by_zero() -> None:
    log_sigma = torch.zeros(2, dtype=D, requires_grad=True)
    losses = torch.tensor([0.0, 1.0], dtype=D)
    total = uncertainty_loss(losses, losses, torch.tensor([True, True]), log_sigma)
    total.backward()
    assert total.isfinite()
    assert log_sigma.grad.isfinite().all()


def test_a_loss_that_is_nan_stays_nan() -> None:
    losses = torch.tensor([math.nan, 1.0], dtype=D)
    assert uncertainty_loss(losses, losses, torch.tensor([True, True]), torch.zeros(2, dtype=D)).isnan()


def test_primary_is_divided_by_its_decoder_weight_and_auxiliaries_take_its_norm() -> None:
    b = rows()
    w = torch.tensor([0.25, 7.0, 0.1], dtype=D)
    result = entering(b, decoder_weights=w)
    length = (b[0] / 0.25).norm()
    assert result[0].item() == 4
    assert torch.allclose((result[1] * b[1]).norm(), 0.3 * length, rtol=1e-10)
    assert torch.allclose((result[2] * b[2]).norm(), 0.6 * length, rtol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_no_auxiliary_enters_longer_than_the_primary(seed: int) -> None:
    b = rows(seed) * torch.tensor([[0.01], [100.0], [1.0]], dtype=D)
    lengths = (entering(b)[:, None] * b).norm(dim=1)
    assert (lengths[1:] <= lengths[0]).all()


@pytest.mark.parametrize("scale", [1e-10, 1e10])
def test_the_direction_does_not_depend_on_the_scale(scale: float) -> None:
    assert torch.allclose(entering(rows() * scale), entering(rows()), rtol=1e-10)


@pytest.mark.parametrize("scale", [1e-10, 1e10])
def test_an_auxiliary_tasks_own_scale_does_not_matter(scale: float) -> None:
    b = rows()
    factor = torch.tensor([[1], [scale], [1]], dtype=D)
    assert torch.allclose(entering(b * factor)[:, None] * b * factor, entering(b)[:, None] * b, rtol=1e-10)


def test_several_primaries_add_up_and_their_sum_is_the_norm() -> None:
    b = rows()
    w = torch.tensor([0.5, 0.2, 3.0], dtype=D)
    result = entering(b, primary=torch.tensor([True, True, False]), decoder_weights=w)
    together = b[0] / 0.5 + b[1] / 0.2
    assert result[:2].tolist() == pytest.approx([2, 5], abs=1e-12)
    assert torch.allclose((result[2] * b[2]).norm(), 0.6 * together.norm(), rtol=1e-10)


def test_an_unlabelled_primary_enters_as_it_is_and_the_reference_is_its_norm() -> None:
    b = rows()
    result = entering(b, active=~FIRST, decoder_weights=torch.tensor([0.0, 1, 1], dtype=D), reference=torch.tensor(2.0))
    assert result[0].item() == 1
    assert torch.allclose((result[1] * b[1]).norm(), torch.tensor(0.6, dtype=D), rtol=1e-10)


@pytest.mark.parametrize("reference", [None, torch.tensor(math.nan)])
def test_before_any_reference_auxiliaries_enter_with_their_weight(reference: torch.Tensor | None) -> None:
    result = entering(rows(), active=~FIRST, reference=reference)
    assert result.tolist() == pytest.approx([1, 0.3, 0.6], abs=1e-12)


def test_of_two_primaries_only_the_labelled_one_sets_the_norm() -> None:
    b = rows()
    active = torch.tensor([True, False, True])
    result = entering(b, primary=torch.tensor([True, True, False]), active=active, reference=torch.tensor(99.0))
    assert result[1].item() == 1
    assert torch.allclose((result[2] * b[2]).norm(), 0.6 * b[0].norm(), rtol=1e-10)


def test_a_branch_that_nothing_reached_has_weight_zero() -> None:
    b = rows() * torch.tensor([[1], [0], [1]], dtype=D)
    result = entering(b)
    assert result[1].item() == 0
    assert result.isfinite().all()


def test_a_primary_that_nothing_reached_is_no_reference() -> None:
    b = rows() * torch.tensor([[0], [1], [1]], dtype=D)
    result = entering(b, reference=torch.tensor(2.0))
    assert result[0].item() == 0
    assert torch.allclose((result[1] * b[1]).norm(), torch.tensor(0.6, dtype=D), rtol=1e-10)


@pytest.mark.parametrize("row", [0, 1])
def test_nan_stays_nan(row: int) -> None:
    b = rows()
    b[row, 0] = math.nan
    assert (entering(b)[:, None] * b).sum(0).isnan().any()


def test_running_mean_has_no_bias_towards_zero() -> None:
    mean = Reference(torch.zeros((), dtype=D), torch.zeros((), dtype=D))
    yes = torch.tensor(True)
    no = torch.tensor(False)
    assert mean.corrected(0.99).isnan()
    mean = mean.updated(torch.tensor(3.0, dtype=D), yes, 0.99)
    assert mean.corrected(0.99).item() == pytest.approx(3, abs=1e-10)
    mean = mean.updated(torch.tensor(0.0, dtype=D), no, 0.99)
    assert mean.corrected(0.99).item() == pytest.approx(3, abs=1e-10)
    mean = mean.updated(torch.tensor(5.0, dtype=D), yes, 0.99)
    assert mean.corrected(0.99).item() == pytest.approx((0.99 * 3 + 5) / 1.99, abs=1e-10)


def test_primary_norm_leaves_out_what_is_absent_even_if_it_is_nan() -> None:
    g = torch.tensor([[4.0, math.nan], [math.nan, math.nan]], dtype=D)
    both = torch.tensor([True, True])
    active = torch.tensor([True, False])
    norm, present = primary_norm(g, primary_coefficients(both, torch.ones(2, dtype=D), active), active)
    assert (norm.item(), present.item()) == (2, True)
