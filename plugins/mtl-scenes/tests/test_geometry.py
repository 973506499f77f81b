"""Ray casting against plain computations."""

import numpy as np
import pytest

from mtl_scenes.geometry import BOX, CYLINDER, NEAR, SPHERE, interval
from mtl_scenes.levels import LEVELS
from mtl_scenes.scene import make_scene
from mtl_scenes.surfaces import trace

SIZE = (20, 30)


def inside(kind, points):
    """Whether points (3, …) are in the unit shape, by its definition."""
    x, y, z = points
    return {
        BOX: np.abs(points).max(0) <= 1,
        CYLINDER: (np.abs(y) <= 1) & (x * x + z * z <= 1),
        SPHERE: x * x + y * y + z * z <= 1,
    }[kind]


@pytest.mark.parametrize("kind", [BOX, CYLINDER, SPHERE])
def test_a_ray_is_inside_exactly_between_enter_and_leave(kind):
    rng = np.random.default_rng(kind)
    origin = rng.normal(0, 3, (3, 200))
    target = rng.uniform(-1.2, 1.2, (3, 200))
    enter, leave = interval(kind, origin, target - origin)
    t = np.linspace(-1, 3, 2001)[:, None]
    sampled = inside(kind, origin[:, None] + t * (target - origin)[:, None])
    unsure = (np.abs(t - enter) < 1e-6) | (np.abs(t - leave) < 1e-6)
    assert sampled.any(0).sum() > 50
    np.testing.assert_array_equal(sampled | unsure, ((t >= enter) & (t <= leave)) | unsure)


def first_hit(scene, directions):
    """Every solid against every pixel in double precision, one solid after the other."""
    solids = scene.solids
    eye = scene.camera.position.astype(float)
    depth = np.full(SIZE, np.inf)
    for i, (kind, centre, half, turn) in enumerate(
        zip(solids.kind, solids.centre, solids.half, solids.turn, strict=True)
    ):
        c = np.cos(float(turn))
        s = np.sin(float(turn))
        into = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]) / half.astype(float)[:, None]
        origin = into @ (eye - centre)
        direction = np.einsum("ij,jhw->ihw", into, directions.astype(float))
        enter, leave = interval(kind, origin[:, None, None], direction)
        t = leave if i == 0 else np.where((enter < leave) & (enter > NEAR), enter, np.inf)
        depth = np.minimum(depth, t)
    return depth


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", range(6))
def test_looking_only_where_a_solid_may_be_seen_loses_nothing(seed, level):
    scene = make_scene(np.random.default_rng(seed), level)
    directions = scene.camera.to_world(scene.camera.rays(SIZE))
    depth, hit = trace(scene, directions)
    wrong = np.abs(depth - first_hit(scene, directions)) > 1e-3
    assert wrong.mean() < 0.002  # single precision may miss a silhouette by a pixel
    assert len(np.unique(hit)) > 2


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", range(20))
def test_the_camera_stands_in_free_space(seed, level):
    scene = make_scene(np.random.default_rng(seed), level)
    directions = scene.camera.to_world(scene.camera.rays(SIZE))
    depth, _ = trace(scene, directions)
    half = scene.solids.half[0]
    assert (np.abs(scene.camera.position - scene.solids.centre[0]) < half).all()
    assert depth.min() > 0.15
    assert np.linalg.det(scene.camera.rotation) == pytest.approx(1, abs=1e-5)
