"""Normals from depth: exact on planes, unknown where depth is, and close to what is published for real rooms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_nyuv2 import NYUv2
from mtl_nyuv2.normals import _from_depth, _rays

H = 60
W = 80


def plane(normal: tuple[float, float, float], distance: float) -> tuple[Tensor, Tensor]:
    """Depth (1, H, W) of a plane n · X = −distance, and its unit normal (3, 1, 1)."""
    n = F.normalize(torch.tensor(normal, dtype=torch.float64), dim=0)
    x, y = _rays(H, W)
    depth = -distance / (n[0] * x + n[1] * y + n[2])
    return depth.float()[None], n.float().view(3, 1, 1)


@pytest.mark.parametrize("normal", [(0, 0, -1), (0.5, 0, -1), (0.1, -0.6, -0.7), (-0.4, 0.3, -0.9)])
def test_a_plane_has_one_normal(normal: tuple[float, float, float]) -> None:
    depth, expected = plane(normal, 2.0)
    assert depth.min() > 0
    found = _from_depth(depth)
    torch.testing.assert_close(found, expected.expand(3, H, W), atol=1e-4, rtol=0)


def test_normals_face_the_camera_and_have_length_one() -> None:
    depth = 2 + torch.rand(1, H, W, generator=torch.Generator().manual_seed(0)) * 0.02
    found = _from_depth(depth).double()
    x, y = _rays(H, W)
    assert ((found[0] * x + found[1] * y + found[2]) < 0).all()
    torch.testing.assert_close(found.norm(dim=0), torch.ones(H, W, dtype=torch.float64), atol=1e-5, rtol=0)


def test_missing_depth_has_no_normal_and_does_not_bend_its_neighbours() -> None:
    depth, expected = plane((0.3, 0.2, -0.9), 2.0)
    depth[:, 20:40, 30:50] = 0
    found = _from_depth(depth)
    missing = (depth[0] == 0).expand(3, H, W)
    assert (found[missing] == 0).all()
    torch.testing.assert_close(found[~missing], expected.expand(3, H, W)[~missing], atol=1e-4, rtol=0)


def test_a_step_between_two_walls_is_not_rounded() -> None:
    near, n = plane((0.3, 0.0, -1.0), 1.5)
    far, m = plane((-0.3, 0.0, -1.0), 3.0)
    left = torch.arange(W) < 40
    found = _from_depth(torch.where(left, near, far))
    expected = torch.where(left, n.expand(3, H, W), m.expand(3, H, W))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_too_few_points_give_no_normal() -> None:
    depth = torch.zeros(1, H, W)
    depth[0, 30, 20:40] = 2.0  # a line is no plane
    depth[0, 5, 5] = 2.0
    assert (_from_depth(depth) == 0).all()
    assert (_from_depth(torch.zeros(1, H, W)) == 0).all()


def test_real_rooms(real: Path) -> None:
    """Against the normals beside the real images, which were derived in another way from the same depth."""
    dataset = NYUv2(root=str(real), cache=False, tasks=("depth", "normals")).build_dataset("train")
    medians = []
    for index in range(0, 795, 80):
        targets = dataset[index].targets
        found = _from_depth(targets["depth"])
        expected = targets["normals"]
        both = (found.norm(dim=0) > 0.5) & (expected.norm(dim=0) > 0.5)
        assert both.float().mean() > 0.7
        cosine = (found * expected).sum(0)[both]
        medians.append(cosine.clamp(-1, 1).acos().rad2deg().median().item())
    assert sum(medians) / len(medians) < 4
    assert max(medians) < 8
