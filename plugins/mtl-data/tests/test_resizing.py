"""Resizing keeps meanings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mtl_data import resize_image, resize_nearest, resize_normals

SIZES = [(12, 16), (48, 64), (17, 23), (1, 1), (24, 32)]
sides = st.integers(1, 40)
quick = settings(max_examples=30, deadline=None)  # a slow machine is no reason to fail


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_normals(share: float, seed: int = 0) -> Tensor:
    """Unit vectors that face the camera, some of them invalid."""
    vectors = torch.randn(3, 24, 32, generator=generator(seed)) * 0.5 - torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1)
    valid = torch.rand(1, 24, 32, generator=generator(seed + 1)) < share
    return torch.where(valid, F.normalize(vectors, dim=0), torch.zeros(()))


@quick
@given(sides, sides)
def test_classes_and_depths_are_those_that_were_there(height: int, width: int) -> None:
    classes = torch.randint(-1, 13, (24, 32), generator=generator())
    depth = torch.rand(1, 24, 32, generator=generator()) * 9
    small = resize_nearest(classes, (height, width))
    near = resize_nearest(depth, (height, width))
    assert (small.shape, small.dtype) == ((height, width), torch.int64)
    assert torch.isin(small, classes).all()
    assert near.shape == (1, height, width)
    assert torch.isin(near, depth).all()


@quick
@given(sides, sides, st.floats(0, 1))
def test_normals_are_of_length_one_or_invalid(height: int, width: int, share: float) -> None:
    found = resize_normals(random_normals(share), (height, width))
    length = found.norm(dim=0)
    assert found.shape == (3, height, width)
    assert ((length == 0) | ((length - 1).abs() < 1e-5)).all()


@pytest.mark.parametrize("size", SIZES)
def test_one_direction_stays_one_direction(size: Any) -> None:
    """Invalid neighbours do not bend a normal, whatever share of the pixel they have."""
    direction = F.normalize(torch.tensor([0.3, -0.5, -0.8]), dim=0).view(3, 1, 1)
    valid = torch.rand(1, 24, 32, generator=generator()) < 0.7
    found = resize_normals(direction * valid, size)
    length = found.norm(dim=0)
    assert (length > 0).float().mean() > 0.4
    torch.testing.assert_close(found, direction * (length > 0.5), atol=1e-5, rtol=0)


def test_invalid_normals_stay_invalid() -> None:
    vectors = random_normals(1.0)
    vectors[:, :, :16] = 0
    found = resize_normals(vectors, (12, 16)).norm(dim=0)
    assert found[:, :7].eq(0).all()
    assert found[:, 9:].gt(0.9).all()
    assert resize_normals(torch.zeros(3, 24, 32), (11, 50)).eq(0).all()


def test_halving_averages_the_image() -> None:
    """With antialiasing: a checkerboard becomes grey, and not one of its colours."""
    checker = (torch.arange(24).view(-1, 1) + torch.arange(32)).remainder(2).mul(200).to(torch.uint8).expand(3, 24, 32)
    small = resize_image(checker, (6, 8))
    assert small.dtype == torch.uint8
    assert (small[:, 1:-1, 1:-1].int() - 100).abs().max() <= 2


@pytest.mark.parametrize("size", SIZES)
def test_bytes_and_floats_are_resized_alike(size: Any) -> None:
    image = torch.randint(0, 256, (3, 24, 32), generator=generator()).to(torch.uint8)
    floats = resize_image(image / 255, size)
    assert floats.min() >= 0
    assert floats.max() <= 1
    assert (resize_image(image, size) / 255 - floats).abs().max() < 0.51 / 255


@pytest.mark.parametrize("size", SIZES)
def test_labels_stay_on_their_pixels(size: Any) -> None:
    """A ramp over the image and over each label is the same ramp afterwards, to within a pixel's width."""
    ramp = torch.linspace(0, 1, 32).expand(1, 24, 32)
    image = resize_image(ramp.repeat(3, 1, 1), size)[:1]
    depth = resize_nearest(ramp, size)
    tilt = torch.stack((ramp[0], torch.zeros(24, 32), -torch.ones(24, 32)))
    normals = resize_normals(F.normalize(tilt, dim=0), size)
    pixel = 1 / min(32, size[1]) + 1e-3
    assert (depth - image).abs().max() <= pixel
    assert (normals[0] / -normals[2] - image).abs().max() <= pixel


@pytest.mark.parametrize("resize", [resize_image, resize_nearest, resize_normals])
def test_the_own_size_changes_nothing(resize: Any) -> None:
    vectors = random_normals(0.8).abs()
    assert torch.equal(resize(vectors, (24, 32)), vectors)
