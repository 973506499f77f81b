"""The real images, where they are: counts, ranges, and labels that agree with each other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_core import Sample
from mtl_nyuv2 import NYUv2
from mtl_nyuv2.official import names_of

CLASSES = names_of(13)
SCALE = 144 / 480
FOCAL = (518.86 * SCALE, 519.47 * SCALE)
CENTRE = (325.58 * SCALE, 253.74 * SCALE)
"""Of the colour camera (the data set's toolbox), in pixels of the small images: x, y."""
REACH = 3
"""Pixels on either side of a difference of depths."""


@pytest.fixture(scope="module")
def samples(real: Path) -> list[Sample]:
    dataset = NYUv2(root=str(real), cache=False).build_dataset("train")
    return [dataset[i] for i in range(0, 795, 53)]


def rays(height: int, width: int) -> Tensor:
    """Directions with z = 1 through the pixels' centres: (3, H, W)."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack(((x - CENTRE[0]) / FOCAL[0], (y - CENTRE[1]) / FOCAL[1], torch.ones_like(x)))


def normals_of(depth: Tensor) -> tuple[Tensor, Tensor]:
    """Normals from differences of depth (3, H', W'), and where these are of one surface: REACH less all round."""
    points = depth * rays(*depth.shape[-2:])
    r = REACH
    right = (points[:, :, 2 * r :] - points[:, :, : -2 * r])[:, r:-r]
    down = (points[:, 2 * r :] - points[:, : -2 * r])[:, :, r:-r]
    whole = -F.max_pool2d(-(depth > 0).float(), 2 * r + 1, 1)[0] > 0
    smooth = (right[2].abs() < 0.3) & (down[2].abs() < 0.3)
    return F.normalize(torch.linalg.cross(down, right, dim=0), dim=0), whole & smooth


def test_counts_and_sizes(real: Path) -> None:
    train, test = (NYUv2(root=str(real)).build_dataset(split) for split in ("train", "test"))
    assert (len(train), len(test)) == (795, 327)
    assert train.names is not None
    assert test.names is not None
    assert (train.names[794], test.names[1]) == ("0794", "0002")
    assert train[0].image.shape == (3, 144, 192)


def test_classes_occur_as_rooms_have_them(samples: list[Sample]) -> None:
    labels = torch.stack([s.targets["segmentation"] for s in samples])
    share = dict(zip(("none", *CLASSES), (labels + 1).flatten().bincount(minlength=14) / labels.numel(), strict=True))
    assert len(labels.unique()) >= 12
    assert 0.1 < share["none"] < 0.3
    assert max(CLASSES, key=lambda name: share[name]) == "wall"
    assert share["floor"] > share["books"]


def test_floors_are_below_ceilings(samples: list[Sample]) -> None:
    rows = torch.arange(144).view(-1, 1).expand(144, 192)
    labels = torch.stack([s.targets["segmentation"] for s in samples])
    height = {
        name: rows.expand_as(labels)[labels == CLASSES.index(name)].float().mean() for name in ("floor", "ceiling")
    }
    assert height["floor"] - height["ceiling"] > 60


def test_depth_is_in_metres(samples: list[Sample]) -> None:
    depth = torch.stack([s.targets["depth"] for s in samples])
    known = depth[depth > 0]
    assert known.min() > 0.5
    assert known.max() <= 10
    assert 1.5 < known.median() < 4
    assert known.numel() / depth.numel() > 0.75


def test_normals_face_the_camera(samples: list[Sample]) -> None:
    for sample in samples:
        normals = sample.targets["normals"]
        valid = normals.norm(dim=0) > 0.5
        assert valid.float().mean() > 0.7
        assert ((normals * rays(144, 192)).sum(0)[valid] < 0.05).all()


def test_normals_agree_with_depth(samples: list[Sample]) -> None:
    medians = []
    for sample in samples:
        found, usable = normals_of(sample.targets["depth"])
        label = sample.targets["normals"][:, REACH:-REACH, REACH:-REACH]
        cosine = (found * label).sum(0)[usable & (label.norm(dim=0) > 0.5)]
        medians.append(cosine.clamp(-1, 1).acos().rad2deg().median())
    assert max(medians) < 10
    assert sum(medians) / len(medians) < 5
