"""Labels follow the physics of what is done to their image."""

import math
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_core import BinaryEdges, Classification, Depth, Normals, Regression, Sample, Segmentation, Task, Tasks
from mtl_core.testing import make_sample
from mtl_randaugment import Geometry
from mtl_randaugment.geometry import Motion, _moved_image, _moved_label

TASKS = Tasks(
    [
        Segmentation(name="segmentation", channels=5),
        Depth(name="depth"),
        Normals(name="normals"),
        Regression(name="shading", channels=2),
        BinaryEdges(name="edges"),
    ]
)
STILL = Motion(scale=1.0, angle=0.0, shift=(0.0, 0.0), mirrored=False)
MIRROR = attrs.evolve(STILL, mirrored=True)
MOTIONS = [
    attrs.evolve(STILL, scale=1.5, shift=(1.0, -1.0)),
    attrs.evolve(STILL, scale=0.7, shift=(-0.5, 1.0)),
    attrs.evolve(STILL, angle=0.4),
    Motion(scale=1.3, angle=-0.2, shift=(0.1, 0.6), mirrored=True),
]


def geometry(tasks: Tasks = TASKS, **options: Any) -> Geometry:
    made = Geometry(**options)
    made.setup(tasks)
    return made


def same(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


def valid(task: Task, target: Tensor) -> Tensor:
    return task.valid(target[None])[0, 0]


def without_gaps(size: tuple[int, int]) -> dict[str, Tensor]:
    """Labels of which every pixel is valid."""
    facing = torch.tensor([0.0, 0.0, -1.0]).view(3, 1, 1).expand(3, *size)
    return {
        "segmentation": torch.ones(size, dtype=torch.long),
        "depth": torch.ones(1, *size),
        "normals": facing.contiguous(),
        "shading": torch.ones(2, *size),
        "edges": torch.ones(1, *size),
    }


def test_mirroring_twice_is_the_identity_on_image_and_every_label() -> None:
    sample = make_sample(TASKS, (20, 31))
    assert torch.equal(_moved_image(_moved_image(sample.image, MIRROR), MIRROR), sample.image)
    for task in TASKS:
        twice = _moved_label(task, _moved_label(task, sample.targets[task.name], MIRROR), MIRROR)
        assert same(twice, sample.targets[task.name]), task.name


def test_mirroring_flips_the_normals_x() -> None:
    normals = F.normalize(torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0)), dim=0)
    found = _moved_label(TASKS["normals"], normals, MIRROR)
    torch.testing.assert_close(found, normals.flip(-1) * torch.tensor([-1.0, 1, 1])[:, None, None])


@pytest.mark.parametrize("scale", [1.2, 1.5, 2.0])
def test_enlarging_divides_metric_depth_and_multiplies_disparity(scale: float) -> None:
    motion = attrs.evolve(STILL, scale=scale, shift=(0.3, -0.4))
    flat = torch.full((1, 20, 30), 3.0)
    torch.testing.assert_close(_moved_label(TASKS["depth"], flat, motion), flat / scale)
    torch.testing.assert_close(_moved_label(Depth(name="disparity", disparity=True), flat, motion), flat * scale)


@pytest.mark.parametrize("shift", [(-1.0, -1.0), (1.0, 1.0), (0.0, 0.0)])
def test_a_crop_shows_the_window_that_was_drawn(shift: tuple[float, float]) -> None:
    """Twice the size: pixel x of the window lies at (x + left)/2 of the image, left = 0 to W − 1."""
    ramp = torch.arange(21.0).expand(3, 15, 21).contiguous()
    found = _moved_image(ramp, attrs.evolve(STILL, scale=2.0, shift=shift))
    left = 10 * (1 - shift[0])
    torch.testing.assert_close(found, ((torch.arange(21.0) + left) / 2).expand(3, 15, 21), rtol=0, atol=1e-3)


def tilted_plane(size: int, focal: float, gradient: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Depth and normals of a plane that a pinhole camera sees: its inverse depth is linear in x and y."""
    y, x = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 2, indexing="ij")
    inverse = 0.25 + gradient[0] * x / focal + gradient[1] * y / focal
    n = -F.normalize(torch.tensor([gradient[0], gradient[1], 0.25]), dim=0)
    return (1 / inverse)[None], n[:, None, None].expand(3, size, size).contiguous()


def normals_of(depth: Tensor, focal: float) -> Tensor:
    """Cross products of the differences between the points of neighbouring pixels, facing the camera."""
    size = depth.shape[-1]
    y, x = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 2, indexing="ij")
    points = depth * torch.stack((x / focal, y / focal, torch.ones_like(x)))
    across = points[:, :-1, 1:] - points[:, :-1, :-1]
    down = points[:, 1:, :-1] - points[:, :-1, :-1]
    return F.normalize(torch.linalg.cross(down, across, dim=0), dim=0)


def test_the_plane_of_these_tests_has_the_normals_of_its_depth() -> None:
    depth, normals = tilted_plane(21, 40.0, (0.05, -0.02))
    torch.testing.assert_close(normals_of(depth, 40.0), normals[:, 1:, 1:], rtol=0, atol=1e-4)


@pytest.mark.parametrize("degrees", [-30.0, 15.0, 90.0])
def test_rotated_normals_are_the_normals_of_the_rotated_plane(degrees: float) -> None:
    """Turning the image about its centre turns the camera about its axis: the plane's gradient turns with it."""
    a = math.radians(degrees)
    size = 41
    focal = 40.0
    gx = 0.05
    gy = -0.02
    turned = (math.cos(a) * gx - math.sin(a) * gy, math.sin(a) * gx + math.cos(a) * gy)
    motion = attrs.evolve(STILL, angle=a)
    inside = (slice(None), slice(14, 27), slice(14, 27))
    before = tilted_plane(size, focal, (gx, gy))
    expected = tilted_plane(size, focal, turned)
    depth, normals = (
        _moved_label(TASKS[n], t, motion)[inside] for n, t in zip(("depth", "normals"), before, strict=True)
    )
    # nearest: half a pixel's way across the plane
    torch.testing.assert_close(depth, expected[0][inside], rtol=0, atol=0.02)
    torch.testing.assert_close(normals, expected[1][inside], rtol=0, atol=1e-5)


def test_mirrored_normals_are_the_normals_of_the_mirrored_plane() -> None:
    before = tilted_plane(21, 40.0, (0.05, -0.02))
    expected = tilted_plane(21, 40.0, (-0.05, -0.02))
    for name, target, wanted in zip(("depth", "normals"), before, expected, strict=True):
        torch.testing.assert_close(_moved_label(TASKS[name], target, MIRROR), wanted)


@pytest.mark.parametrize("name", TASKS.names)
def test_what_comes_from_outside_is_invalid(name: str) -> None:
    target = without_gaps((32, 32))[name]
    turned = valid(TASKS[name], _moved_label(TASKS[name], target, attrs.evolve(STILL, angle=math.radians(45))))
    assert turned[16, 16]
    assert not turned[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert turned.float().mean() == pytest.approx(2 * (math.sqrt(2) - 1), abs=0.03)  # a regular octagon
    shrunk = valid(TASKS[name], _moved_label(TASKS[name], target, attrs.evolve(STILL, scale=0.5)))
    assert shrunk.sum() == 16 * 16
    assert shrunk[8:24, 8:24].all()


@pytest.mark.parametrize("scale", [1.2, 1.5, 8.0])
@pytest.mark.parametrize("shift", [(-1.0, -1.0), (1.0, 1.0), (0.3, -1.0)])
def test_enlarging_alone_brings_nothing_from_outside(scale: float, shift: tuple[float, float]) -> None:
    motion = attrs.evolve(STILL, scale=scale, shift=shift)
    torch.testing.assert_close(_moved_image(torch.ones(3, 20, 31), motion), torch.ones(3, 20, 31))
    for name, target in without_gaps((20, 31)).items():
        assert valid(TASKS[name], _moved_label(TASKS[name], target, motion)).all(), name


@pytest.mark.parametrize("motion", MOTIONS, ids=str)
def test_classes_and_maps_keep_their_values(motion: Motion) -> None:
    """Nothing is mixed: no class and no value that was not there, and what was invalid stays so."""
    sample = make_sample(TASKS, (24, 36))
    for name in ("segmentation", "shading", "edges"):
        before = sample.targets[name]
        after = _moved_label(TASKS[name], sample.targets[name], motion)
        assert torch.isin(after[after == after], torch.cat((before.flatten(), torch.tensor([-1])))).all(), name
        share = valid(TASKS[name], after).float().mean()
        assert 0.3 < share < 0.9, f"{name}: {share:.0%} valid of 80%"


def test_class_numbers_may_be_large() -> None:
    target = torch.full((8, 8), 100_000)
    assert (_moved_label(Segmentation(name="s", channels=100_001), target, MOTIONS[0]) == 100_000).all()


def test_missing_depth_does_not_leak_into_its_neighbours() -> None:
    target = torch.full((1, 24, 36), 3.0)
    target[:, 5:9, 5:9] = 0
    after = _moved_label(TASKS["depth"], target, MOTIONS[3])
    assert after.unique().tolist() == [0, pytest.approx(3 / 1.3)]


@pytest.mark.parametrize("hole", [0.0, 0.25, float("nan")])
def test_invalid_pixels_do_not_leak_into_normals(hole: float) -> None:
    normals = without_gaps((20, 20))["normals"].clone()
    normals[:, 5:9, 5:9] = hole
    found = _moved_label(TASKS["normals"], normals, attrs.evolve(STILL, scale=1.5, angle=0.2))
    kept = valid(TASKS["normals"], found)
    assert (found[:, ~kept] == 0).all()
    assert 20 < (~kept).sum() < 60  # 4 · 4 pixels, enlarged to 6 · 6, with some of the corners
    torch.testing.assert_close(found[2][kept], -torch.ones(int(kept.sum())))


def test_normals_between_two_walls_are_of_unit_length() -> None:
    left, right = F.normalize(torch.tensor([[0.8, 0.0, -0.6], [-0.8, 0.0, -0.6]]), dim=1)
    normals = (
        torch.where(torch.arange(16) < 8, left[:, None, None], right[:, None, None]).expand(3, 16, 16).contiguous()
    )
    found = _moved_label(TASKS["normals"], normals, attrs.evolve(STILL, scale=1.7))
    torch.testing.assert_close(found.norm(dim=0), torch.ones(16, 16))
    assert ((found[0] > -0.7) & (found[0] < 0.7)).any(), "nothing was mixed"


@attrs.frozen(kw_only=True)
class Smooth(Regression):
    """A plugin's own task whose label may be mixed, and is no direction."""

    interpolation = "bilinear"


def test_smooth_maps_that_are_no_directions_keep_their_length() -> None:
    target = torch.full((2, 20, 20), 3.0)
    target[:, 5:9, 5:9] = float("nan")
    found = _moved_label(Smooth(name="heat", channels=2), target, MOTIONS[3])
    torch.testing.assert_close(found[~found.isnan()], torch.full((int((~found.isnan()).sum()),), 3.0))
    assert found.isnan().any()


def test_image_and_label_move_together() -> None:
    """A bright square on black is a class of its own; wherever it goes, they agree."""
    label = torch.zeros(40, 60, dtype=torch.long)
    label[12:25, 20:40] = 3
    image = (label == 3).float().expand(3, 40, 60).contiguous()
    made = geometry(rotation=30.0, scales=(0.8, 1.0, 1.5))
    for seed in range(8):
        found = made.transform_sample(Sample(image, {"segmentation": label}), torch.Generator().manual_seed(seed))
        inside = found.targets["segmentation"] >= 0
        agree = (found.image[0] > 0.5) == (found.targets["segmentation"] == 3)
        assert agree[inside].float().mean() > 0.99


def test_bytes_and_floats_move_alike() -> None:
    image = torch.randint(256, (3, 20, 30), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for motion in MOTIONS:
        torch.testing.assert_close(
            _moved_image(image, motion) / 255, _moved_image(image / 255, motion), rtol=0, atol=0.02
        )


def test_draws_every_scale_both_mirrorings_and_rotations_to_both_sides() -> None:
    made = geometry(rotation=10.0, flip=0.3)
    generator = torch.Generator().manual_seed(0)
    drawn = [made.draw(generator) for _ in range(2000)]
    for scale in (1.0, 1.2, 1.5):
        assert sum(m.scale == scale for m in drawn) == pytest.approx(667, abs=80)
    assert sum(m.mirrored for m in drawn) == pytest.approx(600, abs=80)
    for values, limit in (([m.angle for m in drawn], math.radians(10)), ([m.shift[0] for m in drawn], 1.0)):
        assert -limit <= min(values) < -0.98 * limit
        assert 0.98 * limit < max(values) <= limit


def test_labels_per_image_pass_unchanged() -> None:
    made = geometry(Tasks([Classification(name="scene", channels=3)]), flip=1.0)
    label = torch.tensor(2)
    found = made.transform_sample(Sample(torch.rand(3, 8, 8), {"scene": label}), torch.Generator())
    assert found.targets["scene"] is label


def test_nothing_to_do_changes_nothing() -> None:
    sample = make_sample(TASKS, (16, 24))
    found = geometry(scales=(1.0,), flip=0.0).transform_sample(sample, torch.Generator())
    assert torch.equal(found.image, sample.image)
    assert all(same(found.targets[name], sample.targets[name]) for name in TASKS.names)


class TestPadding:
    """A window of the image's own size out of the padded image."""

    @pytest.mark.parametrize("offset", [(0, 0), (3, 0), (0, -2), (-4, 4), (31, -19), (40, 3), (-31, 20)])
    def test_is_a_crop_of_the_padded_image(self, offset: tuple[int, int]) -> None:
        sample = make_sample(TASKS, (20, 31))
        x, y = offset
        room = 40
        motion = attrs.evolve(STILL, offset=offset)
        window = (..., slice(room - y, room - y + 20), slice(room - x, room - x + 31))
        padded = F.pad(sample.image, (room,) * 4)
        assert torch.equal(_moved_image(sample.image, motion), padded[window])
        for task in TASKS:
            padded = F.pad(sample.targets[task.name], (room,) * 4, value=task.ignored)
            assert same(_moved_label(task, sample.targets[task.name], motion), padded[window]), task.name

    def test_bytes_stay_bytes(self) -> None:
        image = torch.randint(256, (3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        found = _moved_image(image, attrs.evolve(STILL, offset=(2, 1)))
        assert found.dtype == torch.uint8
        assert torch.equal(found[:, 1:, 2:], image[:, :-1, :-2])
        assert not found[:, 0].any()

    def test_every_offset_is_as_likely_as_the_others(self) -> None:
        made = geometry(scales=(1.0,), padding=2)
        generator = torch.Generator().manual_seed(0)
        found = [made.draw(generator).offset for _ in range(2500)]
        counts = [found.count((x, y)) for x in range(-2, 3) for y in range(-2, 3)]
        assert sum(counts) == 2500
        assert min(counts) > 60
        assert max(counts) < 150

    def test_nothing_else_is_drawn_otherwise(self) -> None:
        """Runs without padding go on as they began."""
        plain, padded = (geometry(padding=n).draw(torch.Generator().manual_seed(5)) for n in (0, 3))
        assert attrs.evolve(padded, offset=(0, 0)) == plain
        generator = torch.Generator().manual_seed(5)
        geometry().draw(generator)
        after = torch.Generator().manual_seed(5)
        torch.rand(5, generator=after)
        assert torch.equal(generator.get_state(), after.get_state())

    def test_a_label_per_image_stays(self) -> None:
        tasks = Tasks([Classification(name="people", channels=5)])
        sample = Sample(torch.rand(3, 32, 32), {"people": torch.tensor(-1)})
        made = geometry(tasks, scales=(1.0,), padding=4)
        for seed in range(5):
            assert made.transform_sample(sample, torch.Generator().manual_seed(seed)).targets["people"] == -1

    def test_negative_padding_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'padding' must be >= 0"):
            Geometry(padding=-1)
