"""A random room: its size, what hangs on its walls, what stands in it, its lights and the camera."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import attrs
import numpy as np
from numpy.random import Generator

from mtl_scenes import furniture, materials
from mtl_scenes.builder import Builder
from mtl_scenes.furniture import GLOWING, SLOTS
from mtl_scenes.geometry import Array, Camera, Solids
from mtl_scenes.materials import Materials

Size = tuple[float, float, float]
Make = Callable[[Generator], furniture.Item]

PANELS = ("window", "door", "picture")
AT_WALL: tuple[Make, ...] = (furniture.cabinet, furniture.shelf, furniture.sofa)
STANDING: tuple[tuple[Make, float], ...] = (
    (furniture.table, 0.8), (furniture.lamp, 0.8), *[(furniture.chair, 0.7)] * 3, *[(furniture.thing, 0.5)] * 2,
)  # fmt: skip


@attrs.frozen
class Scene:
    """What is rendered. ``lights``: positions (L, 3); ``powers``: (L, 3), linear RGB; ``ambient``: (3,)."""

    solids: Solids
    materials: Materials
    camera: Camera
    lights: Array
    powers: Array
    ambient: Array


def make_scene(rng: Generator) -> Scene:
    """Draw one room; all of its randomness comes from ``rng``."""
    width, height, depth = rng.uniform((3.0, 2.35, 3.6), (5.5, 3.0, 6.5))
    builder = Builder((width, height, depth))
    camera = make_camera(rng, builder.room)
    builder.taken.append((float(camera.position[0]), float(camera.position[2]), 0.45, 0.55))
    hang_panels(builder, rng)
    furnish(builder, rng)
    surfaces = materials.draw(rng, builder.used)
    shining = surfaces.glow[3 + GLOWING :: SLOTS]
    shining += rng.uniform(0.5, 2.0, shining.shape)
    return Scene(builder.solids(), surfaces, camera, *make_lights(rng, builder.room))


def make_camera(rng: Generator, room: Size) -> Camera:
    """Near one end of the room, looking at some point of its other half."""
    eye = np.array([rng.uniform(-0.35, 0.35) * room[0], -rng.uniform(1.0, 1.9), rng.uniform(0.25, 0.9) - room[2] / 2])
    target = rng.uniform((-0.4 * room[0], -1.5, 0.0), (0.4 * room[0], -0.3, room[2] / 2))
    forward = (target - eye) / np.linalg.norm(target - eye)
    level = np.cross([0.0, 1.0, 0.0], forward)
    level /= np.linalg.norm(level)
    upright, roll = np.cross(forward, level), rng.normal(0, 0.025)
    right, down = np.cos(roll) * level + np.sin(roll) * upright, np.cos(roll) * upright - np.sin(roll) * level
    focal = 0.5 / np.tan(np.radians(rng.uniform(52, 80)) / 2)
    return Camera(eye.astype(np.float32), np.stack([right, down, forward], 1).astype(np.float32), float(focal))


def hang_panels(builder: Builder, rng: Generator) -> None:
    for wall, along in product(range(3), (-0.55, 0.55)):
        if rng.random() < 0.7:
            item = furniture.panel(rng, PANELS[rng.choice(3, p=(0.4, 0.2, 0.4))], builder.room[1])
            builder.add(item, builder.at_wall(item, wall, along + rng.uniform(-0.25, 0.25)))


def furnish(builder: Builder, rng: Generator) -> None:
    """Every item is tried at a few places, and left out where there is no room for it."""
    for make in (*AT_WALL, *(AT_WALL[i] for i in rng.integers(0, len(AT_WALL), 2))):
        item, wanted = make(rng), rng.random() < 0.8
        walls, along = rng.integers(0, 3, 4), rng.uniform(-0.8, 1, 4)
        any(wanted and builder.try_to_add(item, builder.at_wall(item, w, a)) for w, a in zip(walls, along, strict=True))
    for make, chance in STANDING:
        item, wanted = make(rng), rng.random() < chance
        places = rng.uniform((-0.5, -0.3, 0), (0.5, 0.5, 2 * np.pi), (6, 3)) * (builder.room[0], builder.room[2], 1)
        any(wanted and builder.try_to_add(item, tuple(place)) for place in places)


def make_lights(rng: Generator, room: Size) -> tuple[Array, Array, Array]:
    w, h, d = room
    near = rng.uniform((-0.4 * w, -0.97 * h, -0.4 * d), (0.4 * w, -0.8 * h, 0.4 * d), (2, 3))
    tint = 1 + rng.uniform(-0.2, 0.2, (2, 1)) * np.array([1.0, 0.1, -1.0])
    power = tint * rng.uniform((3.0, 0.5), (6.0, 2.5))[:, None]
    ambient = (1 + rng.uniform(-0.1, 0.1, 3)) * rng.uniform(0.25, 0.5)
    return near.astype(np.float32), power.astype(np.float32), ambient.astype(np.float32)
