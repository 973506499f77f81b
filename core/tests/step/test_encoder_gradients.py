"""What a gradient shaper sees: norms, and which branches were reached."""

from __future__ import annotations

import math

import attrs
import torch

from mtl_core.step.encoder_gradients import Shaped
from mtl_core.testing import encoder_gradients, random_rows


def test_norms_are_those_of_the_rows() -> None:
    rows = random_rows(3)
    torch.testing.assert_close(encoder_gradients(rows).norms, rows.norm(dim=1))


def test_a_row_of_zeros_was_not_reached() -> None:
    rows = random_rows(3)
    rows[1] = 0
    assert encoder_gradients(rows).reached.tolist() == [True, False, True]


def test_a_row_that_is_not_finite_was_reached_and_stays_visible() -> None:
    rows = random_rows(3)
    rows[2, 0] = math.nan
    found = encoder_gradients(rows)
    assert found.reached.tolist() == [True, True, True]
    assert found.norms.isnan().tolist() == [False, False, True]


def test_rounding_makes_no_norm_the_root_of_a_negative_number() -> None:
    made = encoder_gradients(random_rows(3))
    below = attrs.evolve(made, gramian=made.gramian - torch.diag(made.gramian.diagonal() + 1e-20))
    assert below.norms.tolist() == [0, 0, 0]


def test_a_shaper_proposes_no_state_unless_it_says_so() -> None:
    assert dict(Shaped(torch.ones(3)).state) == {}
    assert Shaped(torch.ones(3)).state is not Shaped(torch.ones(3)).state
