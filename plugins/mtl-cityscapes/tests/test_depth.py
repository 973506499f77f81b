"""Depth in its three encodings: values, what is invalid, resizing, enlarging, errors."""

from __future__ import annotations

import math

import pytest
import torch

from mtl_cityscapes.depths import Camera, disparity, metres, published
from mtl_cityscapes.tasks import Disparity, PublishedDisparity, make_task
from mtl_core import Depth

RAW = torch.tensor([0.0, 1.0, 257.0, 25601.0, 32257.0]).view(1, 1, 5)


def test_disparity_is_in_pixels_of_the_image() -> None:
    """p = 257 is one pixel of an image 2048 wide, a quarter of one of 512, an eighth of one of 256."""
    assert disparity(RAW, 2048).flatten().tolist() == [-1, 0, 1, 100, 126]
    assert disparity(RAW, 512).flatten().tolist() == [-1, 0, 0.25, 25, 31.5]
    assert disparity(RAW, 256).flatten().tolist() == [-1, 0, 0.125, 12.5, 15.75]


def test_published_numbers_do_not_depend_on_the_size() -> None:
    torch.testing.assert_close(published(RAW).flatten(), torch.tensor([0, 1, 257, 25601, 32257]) / 65535)
    assert float(published(RAW).max()) == pytest.approx(0.4922, abs=1e-4)


def test_metres_come_from_the_camera() -> None:
    camera = Camera(0.222126, 2268.36)
    found = metres(RAW, camera, None).flatten().tolist()
    expected = [0, 0, 503.86, 5.0386, 3.9989]
    assert found == pytest.approx(expected, rel=1e-4)
    assert metres(RAW, camera, 80.0).flatten().tolist() == pytest.approx([0, 0, 0, 5.0386, 3.9989], rel=1e-4)


def test_rounding_keeps_what_is_infinitely_far() -> None:
    almost = torch.tensor([1 - 1e-6]).view(1, 1, 1)
    assert float(disparity(almost, 2048)) == 0
    assert float(metres(almost, Camera(0.2, 2000.0), None)) == 0


def task_of(depth: str, zoom: str = "geometry") -> Depth:
    task = make_task("depth", 19, depth, zoom)
    assert isinstance(task, Depth)
    return task


def test_which_pixels_count() -> None:
    values = torch.tensor([-1.0, 0.0, 0.5, math.nan, math.inf]).view(1, 1, 1, 5)
    assert task_of("disparity").valid(values).flatten().tolist() == [False, True, True, False, False]
    assert task_of("published").valid(values).flatten().tolist() == [False, False, True, False, False]
    assert task_of("metres").valid(values).flatten().tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("depth", ["disparity", "published", "metres"])
def test_a_blank_label_is_invalid_everywhere_and_stays_so(depth: str) -> None:
    task = task_of(depth)
    blank = task.blank(torch.ones(1, 1, 2, 2))
    for zoomed in (blank, task.zoom(blank, 1.5), task.zoom(blank, 0.5)):
        assert not task.valid(zoomed).any()
    assert task.loss(torch.ones(1, 1, 2, 2), blank).tolist() == [0]


@pytest.mark.parametrize(
    ("depth", "zoom", "factor"),
    [
        ("disparity", "geometry", 1.5), ("published", "geometry", 1.5), ("metres", "geometry", 1 / 1.5),
        ("disparity", "mtan", 1 / 1.5), ("published", "mtan", 1 / 1.5), ("metres", "mtan", 1 / 1.5),
    ],
)  # fmt: skip
def test_what_an_enlargement_does(depth: str, zoom: str, factor: float) -> None:
    values = torch.tensor([0.1, 0.4]).view(1, 1, 1, 2)
    torch.testing.assert_close(task_of(depth, zoom).zoom(values, 1.5), values * factor)
    per_sample = torch.tensor([1.5]).view(1, 1, 1, 1)
    torch.testing.assert_close(task_of(depth, zoom).zoom(values, per_sample), values * factor)


def test_an_enlarged_image_has_the_disparity_of_a_wider_one() -> None:
    """The geometry of the default: the same scene at 1.5 times the width."""
    torch.testing.assert_close(
        task_of("disparity").zoom(disparity(RAW[..., 1:], 512), 1.5), disparity(RAW[..., 1:], 768)
    )


def test_kinds_say_whether_they_are_in_metres() -> None:
    assert [type(task_of(depth)) for depth in ("disparity", "published", "metres")] == [
        Disparity, PublishedDisparity, Depth
    ]  # fmt: skip
    assert [task_of(depth).disparity for depth in ("disparity", "published", "metres")] == [True, True, False]


def test_errors_are_means_over_valid_pixels() -> None:
    """By hand: errors 1, 2 and 1 where the label is 0, 4 and 2; the relative error leaves out the label 0."""
    metric = task_of("disparity").metrics()
    target = torch.tensor([-1.0, 0.0, 4.0]).view(1, 1, 1, 3)
    metric.update(torch.tensor([9.0, 1.0, 2.0]).view(1, 1, 1, 3), target)
    metric.update(torch.tensor([3.0]).view(1, 1, 1, 1), torch.tensor([2.0]).view(1, 1, 1, 1))
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found["abs_err"] == pytest.approx(4 / 3)
    assert found["rmse"] == pytest.approx(math.sqrt(2))
    assert found["rel_err"] == pytest.approx(0.5)
    assert found["delta2"] == pytest.approx(50)


def test_without_valid_pixels_errors_are_nan() -> None:
    metric = task_of("metres").metrics()
    metric.update(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    assert all(math.isnan(float(value)) for value in metric.compute().values())
