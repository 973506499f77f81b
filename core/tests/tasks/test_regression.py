"""Values per pixel, and depth: geometry, units, files, what is missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mtl_core.tasks.regression import Depth, Regression

DEPTH = Depth(name="depth")
DISPARITY = Depth(name="disparity", disparity=True)


def test_a_zoom_brings_things_closer() -> None:
    metres = torch.tensor([[[[4.0]]], [[[6.0]]]])
    assert DEPTH.zoom(metres, 2.0).flatten().tolist() == [2, 3]
    assert DISPARITY.zoom(metres, 2.0).flatten().tolist() == [8, 12]
    each = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    assert DEPTH.zoom(metres, each).flatten().tolist() == [4, 3]


def test_depth_has_metres_and_a_disparity_has_none() -> None:
    assert [DEPTH.unit(metric) for metric in ("rmse", "abs_err", "rel_err", "delta1")] == ["m", "m", "", "%"]
    assert [DISPARITY.unit(metric) for metric in ("rmse", "delta1")] == ["", "%"]


def test_the_file_has_millimetres_that_do_not_wrap_round() -> None:
    found = DEPTH.export(torch.tensor([[[1.234, 70.0, -1.0]]]))
    assert found.dtype == np.uint16
    assert found.tolist() == [[1234, 65535, 0]]
    assert (DEPTH.file_ending, DISPARITY.file_ending) == (".png", ".npy")
    assert DISPARITY.export(torch.tensor([[[0.25]]])).tolist() == [[[0.25]]]


@pytest.mark.parametrize("value", [0.0, -3.0, math.nan, math.inf])
def test_depth_that_is_missing(value: float) -> None:
    target = torch.tensor([[[[2.0, value]]]])
    assert DEPTH.valid(target).flatten().tolist() == [True, False]
    assert DEPTH.encode(target).flatten().tolist() == [2, 0]
    assert DEPTH.loss(torch.tensor([[[[3.0, 99.0]]]]), target).tolist() == [1]


def test_a_pixel_of_two_values_is_valid_only_with_both() -> None:
    task = Regression(name="shading", channels=2)
    target = torch.tensor([1.0, 2.0, 3.0, math.nan]).view(1, 2, 1, 2)
    assert task.valid(target).flatten().tolist() == [True, False]
    assert task.encode(target).flatten().tolist() == [1, 2, 3, 0]
    assert "valid pixels that are not finite" not in str(task.value_problems(target[0]))


@pytest.mark.parametrize("loss", ["l1", "l2", "berhu"])
def test_the_soft_loss_of_a_whole_label_is_its_loss(loss: str) -> None:
    task = Depth(name="d", loss=loss)
    prediction, target = torch.rand(2, 1, 3, 4) + 1, torch.rand(2, 1, 3, 4) + 1
    torch.testing.assert_close(task.soft_loss(prediction, target), task.pixel_loss(prediction, target))
    assert task.soft_loss(target, target).abs().max() == 0


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_lambda_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match="silog_lambda"):
        Depth(name="d", silog_lambda=share)


def test_near_is_drawn_darker_than_far() -> None:
    near, far = DEPTH.picture(torch.tensor([[[1.0, 5.0]]]), (1.0, 5.0))[0].astype(int).sum(-1)
    assert near < far
