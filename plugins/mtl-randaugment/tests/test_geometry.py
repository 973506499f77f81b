"""Labels follow the physics of what is done to their image."""

import math

import pytest
import torch
from mtl_core.data import Sample
from mtl_core.tasks import BinaryEdges, Classification, Depth, Normals, Regression, Segmentation, Tasks
from mtl_core.testing import make_sample
from torch import Tensor
from torch.nn import functional as F

from mtl_randaugment import Geometry
from mtl_randaugment.geometry import Motion, moved_image, moved_label

TASKS = Tasks(
    [
        Segmentation(name="segmentation", channels=5),
        Depth(name="depth"),
        Normals(name="normals"),
        Regression(name="shading", channels=2),
        BinaryEdges(name="edges"),
    ]
)
STILL = Motion(1.0, 0.0, (0.0, 0.0), False)
MIRROR = Motion(1.0, 0.0, (0.0, 0.0), True)


def geometry(**options: float) -> Geometry:
    made = Geometry(**options)  # type: ignore[arg-type]
    made.setup(TASKS)
    return made


def same(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | (a.isnan() & b.isnan())).all()) if a.is_floating_point() else torch.equal(a, b)


def test_mirroring_twice_is_the_identity_on_image_and_every_label() -> None:
    sample = make_sample(TASKS, (20, 31))
    assert torch.equal(moved_image(moved_image(sample.image, MIRROR), MIRROR), sample.image)
    for task in TASKS:
        twice = moved_label(task, moved_label(task, sample.targets[task.name], MIRROR), MIRROR)
        assert same(twice, sample.targets[task.name]), task.name


def test_mirroring_flips_the_normals_x() -> None:
    normals = F.normalize(torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0)), dim=0)
    found = moved_label(TASKS["normals"], normals, MIRROR)
    torch.testing.assert_close(found, normals.flip(-1) * torch.tensor([-1.0, 1, 1])[:, None, None])


@pytest.mark.parametrize("scale", [1.2, 1.5, 2.0])
def test_enlarging_divides_metric_depth_and_multiplies_disparity(scale: float) -> None:
    motion = Motion(scale, 0.0, (0.3, -0.4), False)
    flat = torch.full((1, 20, 30), 3.0)
    torch.testing.assert_close(moved_label(TASKS["depth"], flat, motion), flat / scale)
    disparity = Depth(name="disparity", disparity=True)
    torch.testing.assert_close(moved_label(disparity, flat, motion), flat * scale)


def tilted_plane(size: int, focal: float, gradient: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Depth and normal of a plane n·P = −d seen by a pinhole camera, with inverse depth linear in x and y."""
    y, x = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 2, indexing="ij")
    inverse = 0.25 + gradient[0] * x / focal + gradient[1] * y / focal
    n = -F.normalize(torch.tensor([gradient[0], gradient[1], 0.25]), dim=0)
    return (1 / inverse)[None], n[:, None, None].expand(3, size, size).contiguous()


@pytest.mark.parametrize("degrees", [-30.0, 15.0, 90.0])
def test_rotated_normals_are_the_normals_of_the_rotated_plane(degrees: float) -> None:
    """Turning the image about its centre turns the camera about its axis: the plane's gradient turns with it."""
    a, size, focal = math.radians(degrees), 41, 40.0
    gx, gy = 0.05, -0.02
    turned = (math.cos(a) * gx - math.sin(a) * gy, math.sin(a) * gx + math.cos(a) * gy)
    depth, normals = tilted_plane(size, focal, (gx, gy))
    expected_depth, expected_normals = tilted_plane(size, focal, turned)
    motion = Motion(1.0, a, (0.0, 0.0), False)
    inside = (slice(None), slice(14, 27), slice(14, 27))
    torch.testing.assert_close(moved_label(TASKS["normals"], normals, motion)[inside], expected_normals[inside], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved_label(TASKS["depth"], depth, motion)[inside], expected_depth[inside], atol=0.03, rtol=0)


def test_image_and_label_move_together() -> None:
    """A bright square on black is a class of its own; wherever it goes, they agree."""
    label = torch.zeros(40, 60, dtype=torch.long)
    label[12:25, 20:40] = 3
    image = (label == 3).float().expand(3, 40, 60).contiguous()
    made = geometry(rotation=30.0, scales=(1.0, 1.5))
    for seed in range(8):
        sample = Sample(image, {"segmentation": label})
        found = made.transform_sample(sample, torch.Generator().manual_seed(seed))
        inside = found.targets["segmentation"] >= 0
        agree = (found.image[0] > 0.5) == (found.targets["segmentation"] == 3)
        assert agree[inside].float().mean() > 0.97
        assert set(found.targets["segmentation"].unique().tolist()) <= {-1, 0, 3}


def test_what_comes_from_outside_is_invalid() -> None:
    sample = make_sample(TASKS, (32, 32))
    full = {**sample.targets, "depth": torch.ones(1, 32, 32), "segmentation": torch.ones(32, 32, dtype=torch.long),
            "shading": torch.ones(2, 32, 32), "edges": torch.ones(1, 32, 32), "normals": torch.tensor([0.0, 0, -1])[:, None, None].expand(3, 32, 32)}  # fmt: skip
    motion = Motion(1.0, math.radians(45), (0.0, 0.0), False)
    for task in TASKS:
        found = task.valid(moved_label(task, full[task.name], motion)[None])[0, 0]
        assert not found[0, 0]
        assert found[16, 16]
        assert not found[-1, -1]
        assert 0.7 < found.float().mean() < 0.95


def test_invalid_pixels_do_not_leak_into_normals() -> None:
    normals = torch.tensor([0.0, 0, -1])[:, None, None].repeat(1, 20, 20)
    normals[:, 5:9, 5:9] = 0
    found = moved_label(TASKS["normals"], normals, Motion(1.5, 0.2, (0.0, 0.0), False))
    norms = found.norm(dim=0)
    assert ((norms < 1e-6) | ((norms - 1).abs() < 1e-5)).all()
    assert (norms < 1e-6).sum() > 20
    assert found[2][norms > 0.5].eq(-1).all()


def test_labels_per_image_pass_unchanged() -> None:
    made = Geometry(flip=1.0)
    made.setup(Tasks([Classification(name="scene", channels=3)]))
    label = torch.tensor(2)
    found = made.transform_sample(Sample(torch.rand(3, 8, 8), {"scene": label}), torch.Generator())
    assert found.targets["scene"] is label


def test_nothing_to_do_changes_nothing() -> None:
    sample = make_sample(TASKS, (16, 24))
    assert torch.equal(moved_image(sample.image, STILL), sample.image)
    assert all(same(moved_label(t, sample.targets[t.name], STILL), sample.targets[t.name]) for t in TASKS)
