"""A random room: its size, what hangs on its walls, what stands in it, its lights and the camera."""

from __future__ import annotations

from itertools import product

import attrs
import numpy as np
from numpy.random import Generator

from mtl_scenes.builder import Builder
from mtl_scenes.furniture import GLOWING, SLOTS
from mtl_scenes.geometry import Array, Camera, Solids
from mtl_scenes.levels import LEVELS, Appearance, Interior, Range, Viewpoint
from mtl_scenes.materials import Materials

_Size = tuple[float, float, float]

_PANELS = ("window", "door", "picture")


@attrs.frozen
class Scene:
    """What is rendered.

    :param lights: positions (L, 3)
    :param powers: (L, 3), linear RGB
    :param ambient: (3,)
    :param gain: range of the image's mean after exposure
    :param noise: range of the sensor's noise, shares of white
    """

    solids: Solids
    materials: Materials
    camera: Camera
    lights: Array
    powers: Array
    ambient: Array
    gain: Range
    noise: Range


def make_scene(rng: Generator, difficulty: str = "hard") -> Scene:
    """Draw one room; all of its randomness comes from ``rng``.

    :param difficulty: one of ``LEVELS``
    """
    level = LEVELS[difficulty]
    width, height, depth = rng.uniform(*level.interior.room)
    builder = Builder((width, height, depth))
    camera = _make_camera(rng, builder.room, level.viewpoint)
    builder.taken.append((float(camera.position[0]), float(camera.position[2]), 0.45, 0.55))
    _hang_panels(builder, rng, level.interior)
    _furnish(builder, rng, level.interior)
    surfaces = level.appearance.surfaces(rng, builder.painted)
    shining = surfaces.glow[3 + GLOWING :: SLOTS]
    shining += rng.uniform(*level.appearance.glow, shining.shape)
    lights = _make_lights(rng, builder.room, level.appearance)
    return Scene(builder.solids(), surfaces, camera, *lights, level.appearance.gain, level.appearance.noise)


def _make_camera(rng: Generator, room: _Size, view: Viewpoint) -> Camera:
    """Near one end of the room, looking at some point of its other half."""
    x, height, z = rng.uniform(*view.eye)
    eye = np.array([x * room[0], -height, z - room[2] / 2])
    lowest, highest = (np.multiply(bound, (room[0], 1, room[2])) for bound in view.target)
    target = rng.uniform(lowest, highest)
    forward = (target - eye) / np.linalg.norm(target - eye)
    level = np.cross([0.0, 1.0, 0.0], forward)
    level /= np.linalg.norm(level)
    upright = np.cross(forward, level)
    roll = rng.normal(0, view.roll)
    right = np.cos(roll) * level + np.sin(roll) * upright
    down = np.cos(roll) * upright - np.sin(roll) * level
    focal = 0.5 / np.tan(np.radians(rng.uniform(*view.angle)) / 2)
    return Camera(eye.astype(np.float32), np.stack([right, down, forward], 1).astype(np.float32), float(focal))


def _hang_panels(builder: Builder, rng: Generator, interior: Interior) -> None:
    places, chance = interior.hung
    for wall, along in product(range(3), places):
        if rng.random() < chance:
            item = interior.panel(rng, _PANELS[rng.choice(3, p=(0.4, 0.2, 0.4))], builder.room[1])
            builder.add(item, builder.at_wall(item, wall, along + rng.uniform(-0.25, 0.25)))


def _furnish(builder: Builder, rng: Generator, interior: Interior) -> None:
    """Every item is tried at a few places, and left out where there is no room for it."""
    again = rng.integers(0, len(interior.at_wall), interior.more)
    for make in (*interior.at_wall, *(interior.at_wall[i] for i in again)):
        item = make(rng)
        wanted = rng.random() < interior.chance
        walls = rng.integers(0, 3, 4)
        along = rng.uniform(*interior.along, 4)
        any(wanted and builder.try_to_add(item, builder.at_wall(item, w, a)) for w, a in zip(walls, along, strict=True))
    lowest = (-0.5, interior.ahead[0], 0)
    highest = (0.5, interior.ahead[1], 2 * np.pi)
    for make, chance in interior.standing:
        item = make(rng)
        wanted = rng.random() < chance
        places = rng.uniform(lowest, highest, (6, 3)) * (builder.room[0], builder.room[2], 1)
        any(wanted and builder.try_to_add(item, tuple(place)) for place in places)


def _make_lights(rng: Generator, room: _Size, look: Appearance) -> tuple[Array, Array, Array]:
    w, h, d = room
    near = rng.uniform(*(np.multiply(bound, (w, h, d)) for bound in look.lights))
    tint = 1 + rng.uniform(-look.tint, look.tint, (2, 1)) * np.array([1.0, 0.1, -1.0])
    first, second = look.power
    power = tint * rng.uniform((first[0], second[0]), (first[1], second[1]))[:, None]
    ambient = (1 + rng.uniform(-look.tint / 2, look.tint / 2, 3)) * rng.uniform(*look.ambient)
    return near.astype(np.float32), power.astype(np.float32), ambient.astype(np.float32)
