"""Edges: the weight of the rare pixels, values between 0 and 1."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mtl_core.tasks.edges import BinaryEdges

TASK = BinaryEdges(name="edges")


def test_the_weighted_loss_against_its_formula() -> None:
    logits = torch.tensor([[[[1.5, -0.5, 2.0]]]])
    target = torch.tensor([[[[1.0, 0.0, math.nan]]]])
    p = torch.sigmoid(logits[0, 0, 0])
    expected = (-0.95 * math.log(p[0]) - 0.05 * math.log(1 - p[1])) / 2
    assert TASK.loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_half_the_weight_is_half_of_torchs_loss() -> None:
    logits, target = torch.randn(2, 1, 3, 3), (torch.rand(2, 1, 3, 3) > 0.5).float()
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    found = BinaryEdges(name="e", positive_weight=0.5).pixel_loss(logits, target)
    torch.testing.assert_close(found, plain / 2)


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_a_share_is_between_0_and_1(weight: float) -> None:
    with pytest.raises(ValueError, match="positive_weight"):
        BinaryEdges(name="e", positive_weight=weight)


def test_values_beyond_1_are_a_mistake_and_missing_ones_are_none() -> None:
    assert TASK.value_problems(torch.tensor([[[0.0, math.nan, 1.0]]])) == []
    (problem,) = TASK.value_problems(torch.tensor([[[0.0, 255.0]]]))
    assert problem == "found values 0 to 255, expected 0 to 1; divide by the highest value"
    assert TASK.value_problems(torch.full((1, 2, 2), math.nan)) == []


def test_the_picture_does_not_depend_on_how_rare_edges_are() -> None:
    assert TASK.picture(torch.tensor([[[0.0, 1.0]]]), (0.0, 0.01)).tolist() == [[[0] * 3, [255] * 3]]
    assert TASK.picture(torch.tensor([[[0.5]]]), (0.0, 0.01)).dtype == np.uint8
