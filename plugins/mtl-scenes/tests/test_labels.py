"""Labels agree with each other and with the scene."""

import attrs
import numpy as np
import pytest

from mtl_scenes.furniture import CLASSES
from mtl_scenes.geometry import BOX, CYLINDER, SPHERE, Solids
from mtl_scenes.labels import LABELS, _keypoints, _occlusion_edges, _reshading, _texture_edges
from mtl_scenes.levels import LEVELS
from mtl_scenes.render import View, render
from mtl_scenes.scene import make_scene

every_level = pytest.mark.parametrize("level", LEVELS)


def view(seed=0, size=(96, 128), noise=0, level="hard"):
    return render(make_scene(np.random.default_rng(seed), level), size, np.random.default_rng(noise))


def flat_view(image=None, depth=None, normal=(0, 0, -1), size=(24, 24)):
    """A view made by hand: rays of a camera whose focal length is the image's width."""
    y, x = (np.mgrid[: size[0], : size[1]] + 0.5 - size[0] / 2) / size[1]
    image = np.zeros((3, *size), np.uint8) if image is None else np.broadcast_to(image, (3, *size)).astype(np.uint8)
    depth = np.full(size, 2.0) if depth is None else depth
    normals = np.broadcast_to(np.array(normal, float)[:, None, None], (3, *size))
    rays = np.stack([x, y, np.ones(size)])
    arrays = (a.astype(np.float32) for a in (depth, normals))
    return View(image, *arrays, np.zeros(size, np.int64), rays.astype(np.float32))


@every_level
@pytest.mark.parametrize("seed", range(4))
def test_normals_are_those_of_the_depth(seed, level):
    seen = view(seed, level=level)
    points = (seen.rays * seen.depth).astype(float)
    right = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    down = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    derived = np.cross(down, right, axis=0)
    derived /= np.linalg.norm(derived, axis=0)
    angle = np.degrees(np.arccos(np.clip((derived * seen.normals[:, 1:-1, 1:-1]).sum(0), -1, 1)))
    inverse = 1 / seen.depth.astype(float)  # linear in the pixels on any plane, so that it bends at edges and steps
    bend = np.abs(np.diff(inverse, 2, axis=0)[:, 1:-1]) + np.abs(np.diff(inverse, 2, axis=1)[1:-1])
    flat = bend < 1e-4
    assert flat.mean() > 0.5
    assert np.median(angle[flat]) < 0.05
    assert np.mean(angle[flat] < 1) > 0.99


@pytest.mark.parametrize("kind", [CYLINDER, SPHERE])
def test_normals_of_round_solids(kind):
    """Alone in a room, one metre wide, two metres ahead: the normal is the gradient of its equation."""
    scene = make_scene(np.random.default_rng(5))
    centre = scene.camera.position + scene.camera.to_world(np.array([0.1, 0.2, 2.0], np.float32))
    room = scene.solids
    alone = Solids(
        kind=np.array([BOX, kind]),
        centre=np.stack([room.centre[0], centre]),
        half=np.stack([room.half[0], np.full(3, 0.5, np.float32)]),
        turn=np.zeros(2, np.float32),
        label=np.array([2, 11]),
        material=np.zeros(2, int),
    )
    seen = render(attrs.evolve(scene, solids=alone), (48, 64), np.random.default_rng(0))
    there = seen.classes == 11
    points = scene.camera.to_world(seen.rays * seen.depth) + scene.camera.position[:, None, None]
    outward = (points - centre[:, None, None])[:, there] / 0.5
    if kind == CYLINDER:
        cap = np.abs(outward[1]) > 0.999
        outward = np.where([cap, ~cap, cap], 0, outward)
    expected = scene.camera.to_camera((outward / np.linalg.norm(outward, axis=0))[:, None])[:, 0]
    assert there.mean() > 0.05
    np.testing.assert_allclose(seen.normals[:, there], expected, atol=2e-3)


@every_level
@pytest.mark.parametrize("seed", range(8))
def test_normals_are_unit_vectors_that_face_the_camera(seed, level):
    seen = view(seed, level=level)
    np.testing.assert_allclose(np.linalg.norm(seen.normals, axis=0), 1, atol=1e-5)
    assert (seen.normals * seen.rays).sum(0).max() < 1e-3


@every_level
@pytest.mark.parametrize("seed", range(8))
def test_depth_is_measured_along_the_optical_axis(seed, level):
    """Floor and ceiling, back-projected with z = depth, lie at their heights."""
    scene = make_scene(np.random.default_rng(seed), level)
    seen = render(scene, (48, 64), np.random.default_rng(0))
    height = scene.camera.position[1] + scene.camera.to_world(seen.rays * seen.depth)[1]
    for name, level in (("floor", 0.0), ("ceiling", -2 * scene.solids.half[0, 1])):
        found = height[seen.classes == CLASSES.index(name)]
        np.testing.assert_allclose(found, np.full_like(found, level), atol=1e-4)


@every_level
def test_labels_do_not_depend_on_the_sensor(level):
    first = view(noise=1, level=level)
    second = view(noise=2, level=level)
    assert (first.image != second.image).mean() > 0.3
    for name in ("segmentation", "depth", "normals", "occlusion_edges", "reshading"):
        np.testing.assert_array_equal(LABELS[name][1](first), LABELS[name][1](second))


def test_occlusion_edges_are_at_steps_and_not_on_slopes_or_folds():
    x = flat_view().rays[0]
    slope = _occlusion_edges(flat_view(depth=2 / (1 - 0.8 * x), normal=np.array([0.8, 0, -1]) / np.hypot(0.8, 1)))
    assert slope.max() < 1e-4
    step = _occlusion_edges(flat_view(depth=np.where(x < 0, 2.0, 3.0)))[0]
    np.testing.assert_allclose(step[:, 11:13].min(), 0.75, atol=1e-5)  # 1, after the blur
    assert step[:, :10].max() == 0 == step[:, 14:].max()


def test_a_fold_is_no_occlusion():
    x = flat_view().rays[0]
    fold = flat_view(depth=2 / (1 + np.abs(x)))
    sides = np.where(x < 0, -1, 1)
    folded = np.stack([-sides, 0 * sides, -np.ones_like(x)]) / np.sqrt(2)
    edges = _occlusion_edges(View(fold.image, fold.depth, folded.astype(np.float32), fold.classes, fold.rays))
    assert edges.max() < 0.3


def test_texture_edges_follow_the_image_alone():
    x = np.mgrid[:24, :24][1]
    edges = _texture_edges(flat_view(image=np.where(x < 12, 0, 51)))[0]
    np.testing.assert_allclose(edges[:, 11:13], 4 * 0.2 / 2, atol=1e-5)
    assert edges[:, :11].max() == 0 == edges[:, 13:].max()


def test_keypoints_answer_to_corners_and_not_to_edges():
    y, x = np.mgrid[:24, :24]
    found = _keypoints(flat_view(image=np.where((x > 11) & (y > 11), 200, 40)))[0]
    top = np.unravel_index(found.argmax(), found.shape)
    assert max(abs(top[0] - 12), abs(top[1] - 12)) <= 1
    assert found[12, 20] < 0.05 * found.max()
    assert found[3, 3] == 0


def test_reshading_of_a_wall_is_brightest_in_front_of_the_light():
    """The light is 0.5 m above the camera: on a wall 2 m away, a quarter of the image's width above the middle."""
    shade = _reshading(flat_view())[0]
    brightest = np.unravel_index(shade.argmax(), shade.shape)
    assert abs(brightest[0] + 0.5 - 6) <= 1
    assert abs(brightest[1] + 0.5 - 12) <= 1
    corner = np.array([-0.5 + 0.5 / 24, -0.5 + 0.5 / 24, 1]) * 2 - (0, -0.5, 0)
    assert shade[0, 0] == pytest.approx(corner[2] / np.linalg.norm(corner), abs=1e-5)


@pytest.mark.parametrize(("level", "low", "high"), [("hard", 0, 0.6), ("medium", 1, 9), ("easy", 1, 9)])
def test_only_hard_rooms_give_no_class_away_by_its_colour(level, low, high):
    """Over many rooms: do the mean colours of classes differ more than those of one class between rooms?"""
    rooms = [view(seed, (24, 32), level=level) for seed in range(60)]
    of_class = {
        name: np.array([r.image[:, r.classes == i].mean(1) for r in rooms if (r.classes == i).sum() > 20])
        for i, name in enumerate(CLASSES)
        if name in ("floor", "wall", "cabinet", "table", "sofa")
    }
    between = np.std([colours.mean(0) for colours in of_class.values()], axis=0).mean()
    within = np.mean([colours.std(0) for colours in of_class.values()])
    assert low < between / within < high
