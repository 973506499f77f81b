"""Unit rows, rows that nothing reached, and weights made of them."""

from __future__ import annotations

import torch

from mtl_core.testing import random_rows
from mtl_weighting.gramians import cosines, per_branch, precise, with_ridge

EVERY = torch.ones(3, dtype=torch.bool)


def test_cosines_do_not_depend_on_the_size_of_the_rows() -> None:
    rows = random_rows(3)
    expected = torch.nn.functional.normalize(rows, dim=1)
    scaled = rows * torch.tensor([1e-4, 1.0, 1e4], dtype=rows.dtype)[:, None]
    for made in (rows, scaled):
        torch.testing.assert_close(cosines(made @ made.T, EVERY), expected @ expected.T)


def test_an_unreached_branch_has_the_row_of_the_identity() -> None:
    rows = random_rows(3)
    rows[1] = 0
    found = cosines(rows @ rows.T, torch.tensor([True, False, True]))
    assert found[1].tolist() == found[:, 1].tolist() == [0, 1, 0]
    assert found.isfinite().all()


def test_dependent_rows_can_be_solved_for() -> None:
    rows = random_rows(1).float() * torch.tensor([[1.0], [2.0], [3.0]])
    c = cosines(rows @ rows.T, EVERY)
    solved = torch.linalg.solve(with_ridge(c, rows.dtype), torch.ones(3, dtype=c.dtype))
    assert solved.isfinite().all()
    torch.testing.assert_close(with_ridge(c, torch.float64), c, atol=1e-9, rtol=0)
    assert precise(rows).dtype == torch.float64


def test_weights_of_branches_undo_the_unit_length() -> None:
    rows = random_rows(3)
    coefficients = torch.tensor([1.0, 2.0, 3.0], dtype=rows.dtype)
    weights = per_branch(coefficients, rows @ rows.T, torch.tensor([True, True, False]))
    torch.testing.assert_close(weights[:2] * rows.norm(dim=1)[:2], coefficients[:2])
    assert weights[2] == 0


def test_a_gramian_that_is_not_finite_makes_every_weight_nan() -> None:
    gramian = torch.eye(3)
    gramian[0, 1] = torch.inf
    assert per_branch(torch.ones(3), gramian, EVERY).isnan().all()
