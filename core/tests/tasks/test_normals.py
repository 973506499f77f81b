"""Surface normals under geometry, in files, and with what is no unit vector."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_core.tasks.normals import Normals

TASK = Normals(name="normals")


def unit(seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_a_turned_mirror_is_a_mirror() -> None:
    target = unit()
    torch.testing.assert_close(TASK.flip(TASK.flip(target)), target)
    assert torch.equal(TASK.flip(target)[:, 0], -target[:, 0])
    assert torch.equal(TASK.flip(target)[:, 1:], target[:, 1:])


def test_four_quarter_turns_are_none() -> None:
    right = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)
    # y is down: clockwise as displayed
    torch.testing.assert_close(TASK.rotate(right, math.pi / 2).flatten(), torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0)
    turned = target = unit()
    for _ in range(4):
        turned = TASK.rotate(turned, math.pi / 2)
    torch.testing.assert_close(turned, target, atol=1e-5, rtol=0)
    torch.testing.assert_close(TASK.rotate(target, 0.7).norm(dim=1), target.norm(dim=1))


def test_what_was_averaged_is_a_unit_vector_again_or_nothing() -> None:
    mixed = TASK.mixed((unit(0) + unit(1)) / 2)
    torch.testing.assert_close(mixed.norm(dim=1), torch.ones(2, 4, 5))
    assert not TASK.mixed(torch.zeros(1, 3, 2, 2)).any()


def test_short_vectors_are_invalid_and_long_ones_a_mistake() -> None:
    label = unit()[0]
    assert TASK.value_problems(label) == []
    assert TASK.value_problems(torch.zeros(3, 4, 5)) == []
    (problem,) = TASK.value_problems(2 * label)
    assert problem.startswith("found normals of length 2 to 2, not of length 1; turn colours into −1..1 first")
    assert not TASK.valid(0.4 * label[None]).any()
    assert not TASK.valid(math.nan * label[None]).any()


@pytest.mark.parametrize("loss", ["cosine", "l1"])
def test_the_right_direction_costs_nothing_and_the_opposite_most(loss: str) -> None:
    task, target = Normals(name="n", loss=loss), unit()
    right, across, wrong = (task.loss(scale * target, target) for scale in (3.0, 1.0, -2.0))
    torch.testing.assert_close(right, torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(across, right, atol=1e-6, rtol=0)
    assert (wrong > task.loss(unit(1), target)).all()


def test_the_file_is_read_back_within_its_steps() -> None:
    label = unit()[0]
    colours = TASK.export(label)
    assert (colours.shape, colours.dtype) == ((4, 5, 3), np.uint8)
    back = (torch.from_numpy(colours.astype(np.float32)).permute(2, 0, 1) - 128) / 127
    assert (back - label).abs().max() <= 0.5 / 127 + 1e-6
    assert TASK.picture(label * math.nan, (0, 1)).tolist() == [[[127] * 3] * 5] * 4
