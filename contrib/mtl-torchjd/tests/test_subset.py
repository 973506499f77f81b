"""Parts of tensors for some of the tasks, and draws that leave no trace."""

from __future__ import annotations

import pytest
import torch

from mtl_core.testing import make_step, make_tasks
from mtl_torchjd.subset import part, placed, seeded

ROWS = torch.tensor([0, 2])


def test_a_part_is_the_entries_of_some_tasks() -> None:
    assert part(torch.tensor([1.0, 2.0, 3.0]), ROWS).tolist() == [1, 3]
    assert part(torch.arange(9.0).view(3, 3), ROWS).tolist() == [[0, 2], [6, 8]]


def test_a_scalar_belongs_to_all_and_is_a_copy() -> None:
    scalar = torch.tensor(3.0)
    found = part(scalar, ROWS)
    found.add_(1)
    assert scalar == 3


@pytest.mark.parametrize("full", [torch.arange(3.0), torch.arange(9.0).view(3, 3), torch.tensor(5.0)])
def test_what_is_put_back_changes_these_entries_alone(full: torch.Tensor) -> None:
    before = full.clone()
    found = placed(full, ROWS, part(full, ROWS).double() + 10)
    assert found.dtype == full.dtype
    torch.testing.assert_close(part(found, ROWS), part(full, ROWS) + 10)
    changed = (found != full).sum()
    assert changed == part(full, ROWS).numel()
    assert torch.equal(full, before)


def test_draws_follow_the_step_and_leave_the_generator_as_it_was() -> None:
    step = make_step(make_tasks())
    before = torch.random.get_rng_state()
    with seeded(step):
        first = torch.rand(3)
    with seeded(step):
        second = torch.rand(3)
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)
    with seeded(None):
        torch.rand(1)
    assert not torch.equal(torch.random.get_rng_state(), before)
