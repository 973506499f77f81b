"""The real view, where it is: ranges, axes, and labels that agree with each other."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_core import Sample
from mtl_taskonomy import Taskonomy

FOLDERS = ("rgb", "depth_zbuffer", "edge_occlusion", "edge_texture", "keypoints2d", "normal", "reshading",
           "principal_curvature")  # fmt: skip
TASKS = ("segmentation", "depth", "normals", "occlusion_edges", "reshading", "keypoints", "texture_edges",
         "principal_curvature")  # fmt: skip


@pytest.fixture
def tree(real: Path, tmp_path: Path) -> Path:
    """The view as a building of tiny."""
    for folder in FOLDERS:
        name = f"point_202_view_5_domain_{folder}.png"
        (tmp_path / "tree" / "hanson" / folder).mkdir(parents=True)
        (tmp_path / "tree" / "hanson" / folder / name).symlink_to(real / name)
    return tmp_path / "tree"


def sample(tree: Path, **options: Any) -> Sample:
    return Taskonomy(root=str(tree), incomplete=True, tasks=TASKS, **options).build_dataset("train")[0]


def rays(real: Path) -> Tensor:
    """Directions with z = 1 through the pixels' centres (3, 512, 512), by the view's camera."""
    camera = json.loads((real / "point_202_view_5_domain_point_info.json").read_text("utf-8"))
    size = camera["resolution"]
    focal = size / 2 / math.tan(camera["field_of_view_rads"] / 2)
    y, x = torch.meshgrid(*[(torch.arange(size) + 0.5 - size / 2) / focal] * 2, indexing="ij")
    return torch.stack((x, y, torch.ones_like(x)))


def test_what_it_has(tree: Path) -> None:
    data = Taskonomy(root=str(tree), incomplete=True, tasks=TASKS).build_dataset("train")
    assert list(data.names or ()) == ["hanson/point_202_view_5"]
    assert data.labelled is not None
    assert data.labelled.tolist() == [[False] + [True] * 7]
    assert data[0].image.shape == (3, 512, 512)


def test_depth_is_in_metres(tree: Path) -> None:
    depth = sample(tree).targets["depth"]
    known = depth[depth > 0]
    assert known.min().item() == pytest.approx(510 / 512)
    assert known.max() < 20
    assert 1 - known.numel() / depth.numel() == pytest.approx(0.077, abs=0.001)


def test_a_ceiling_points_down_and_a_floor_up(tree: Path) -> None:
    normals = sample(tree).targets["normals"]
    assert normals[1, :20].median() > 0.9
    assert normals[1, -20:].median() < -0.9


def test_normals_face_the_camera(tree: Path, real: Path) -> None:
    normals = sample(tree).targets["normals"]
    valid = normals.norm(dim=0) > 0.5
    towards = (normals * F.normalize(rays(real), dim=0)).sum(0)[valid]
    assert (towards < 0.02).float().mean() > 0.995


def test_normals_agree_with_depth(tree: Path, real: Path) -> None:
    targets = sample(tree).targets
    points = targets["depth"] * rays(real)
    right = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    down = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    whole = -F.max_pool2d(-(targets["depth"] > 0).float(), 3, 1)[0] > 0
    label = targets["normals"][:, 1:-1, 1:-1]
    usable = whole & (right[2].abs() < 0.1) & (down[2].abs() < 0.1) & (label.norm(dim=0) > 0.5)
    found = F.normalize(torch.linalg.cross(down, right, dim=0), dim=0)
    angle = (found * label).sum(0)[usable].clamp(-1, 1).acos().rad2deg()
    assert usable.float().mean() > 0.7
    assert angle.median() < 3


def test_holes_of_the_mesh_are_masked_in_what_is_made_from_it(tree: Path) -> None:
    targets = sample(tree).targets
    hole = targets["depth"] == 0
    for task in ("occlusion_edges", "reshading", "principal_curvature"):
        assert targets[task].isnan().all(0, keepdim=True).equal(hole), task
    assert (targets["normals"].norm(dim=0) < 0.5)[hole[0]].all()
    assert targets["texture_edges"].isfinite().all()


def test_targets_fill_their_range(tree: Path) -> None:
    """As Taskonomy stretches them: neither all dark nor all at the top."""
    targets = sample(tree, size=(256, 256)).targets
    for task in ("occlusion_edges", "texture_edges", "keypoints", "reshading"):
        known = targets[task][targets[task].isfinite()]
        assert known.min() >= 0
        assert known.quantile(0.999) > 0.3, task
        assert known.quantile(0.999) < 1.6, task


def test_standley_gives_a_mean_near_0_and_a_deviation_near_1(tree: Path) -> None:
    """One view, against statistics of the whole data set."""
    targets = sample(tree, convention="standley", depth="standley").targets
    for task in ("depth", "occlusion_edges", "keypoints", "reshading", "principal_curvature"):
        known = targets[task][targets[task].isfinite()]
        assert known.mean().abs() < 2.5, task
        assert 0.1 < known.std() < 4, task


def test_edges_of_occlusion_are_where_depth_jumps(tree: Path) -> None:
    targets = sample(tree, convention="plain").targets
    depth = targets["depth"]
    nearest = -F.max_pool2d(-depth[None], 5, 1, 2)[0]
    jump = F.max_pool2d(depth[None], 5, 1, 2)[0] - nearest
    known = nearest > 0
    edge = targets["occlusion_edges"]
    assert edge[known & (jump > 0.5)].mean() > 5 * edge[known & (jump < 0.1)].mean()
