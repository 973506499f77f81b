"""How the branches stand to the primary one: against rows written out."""

from __future__ import annotations

import pytest
import torch

from mtl_auxiliary.primary import against_primary, primary_mask
from mtl_core import MtlError
from mtl_core.testing import make_tasks, random_rows

TASKS = make_tasks("segmentation", "depth", "normals")


def test_one_name_or_several() -> None:
    assert primary_mask("p", "depth", TASKS).tolist() == [False, True, False]
    assert primary_mask("p", ("normals", "segmentation"), TASKS).tolist() == [True, False, True]


def test_a_name_that_is_no_task_is_an_option_of_the_plugin() -> None:
    with pytest.raises(MtlError, match=r"my-plugin\.primary: the data set has no task 'dept'; did you mean \"depth\""):
        primary_mask("my-plugin", ("normals", "dept"), TASKS)


@pytest.mark.parametrize("primary", [[True, False, False, False], [False, True, False, True]])
def test_products_and_cosines_are_those_of_the_rows(primary: list[bool]) -> None:
    rows, chosen = random_rows(4), torch.tensor(primary)
    sum_of_primary = rows[chosen].sum(0)
    products, cosines = against_primary(rows @ rows.T, chosen)
    torch.testing.assert_close(products, rows @ sum_of_primary)
    torch.testing.assert_close(cosines, torch.cosine_similarity(rows, sum_of_primary[None]))


def test_a_row_of_zeros_stands_across() -> None:
    rows = random_rows(3)
    rows[1] = 0
    for primary in ([True, False, False], [False, True, False]):
        _, cosines = against_primary(rows @ rows.T, torch.tensor(primary))
        assert cosines.isfinite().all()
        assert cosines[1] == 0
    assert not cosines.any(), "nothing points along a primary branch that nothing reached"
