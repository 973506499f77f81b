"""Light, shadows and the sensor.

Shape letters: H and W image size.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mtl_scenes.furniture import CLASSES
from mtl_scenes.geometry import Array, Index, Solids, interval, into_units, transform
from mtl_scenes.levels import Range
from mtl_scenes.scene import Scene
from mtl_scenes.surfaces import Surface


def shade(scene: Scene, surface: Surface) -> Array:
    """Light that arrives (3, H, W): point lights, the first with shadows, and ambient light, less of it in corners."""
    light = scene.ambient[:, None, None] * _openness(scene, surface.points)
    for i, (position, power) in enumerate(zip(scene.lights, scene.powers, strict=True)):
        towards = position[:, None, None] - surface.points
        square = (towards * towards).sum(0)
        lambert = np.maximum((surface.normals * towards).sum(0), 0) / np.sqrt(square) / (1 + square)
        if i == 0:
            lambert = lambert * _lit(scene.solids, surface, position)
        light = light + power[:, None, None] * lambert
    return light + scene.materials.glow[surface.material]


def _lit(solids: Solids, surface: Surface, light: Array) -> Array:
    """0.15 in the shadow of a solid that is not thin, 1 elsewhere."""
    shadow = np.zeros(surface.classes.shape, bool)
    rays = surface.points + 0.02 * surface.normals - light[:, None, None]
    matrices, origins = into_units(solids, light)
    for i in _casters(solids):
        enter, leave = interval(solids.kind[i], origins[i], transform(matrices[i], rays))
        shadow |= np.maximum(enter, 0) < np.minimum(leave, 1)
    return np.where(shadow, np.float32(0.15), np.float32(1))


def _casters(solids: Solids) -> Index:
    """Solids whose shadow is worth its time: neither the room, nor what is flat on a wall, nor what is thin."""
    broad = np.sort(solids.half, 1)[:, 1] > 0.1
    flat = np.isin(solids.label, [CLASSES.index(name) for name in ("wall", "window", "door", "picture")])
    return np.flatnonzero(broad & ~flat)


def _openness(scene: Scene, points: Array) -> Array:
    """1 in the open, less where floor, walls and ceiling meet."""
    half = scene.solids.half[0][:, None, None]
    centred = np.abs(points - scene.solids.centre[0][:, None, None])
    share: Array = np.prod(1 - 0.45 * np.exp((centred - half) / 0.25), 0)
    return share


def expose(colour: Array, rng: Generator, gain: Range, noise: Range) -> NDArray[np.uint8]:
    """A camera's exposure, blur, response and noise.

    :param gain: range of the image's mean, linear
    :param noise: range of the noise's standard deviation, shares of white
    """
    factor = rng.uniform(*gain) / colour.mean()
    padded = np.pad(np.minimum(colour * factor, 1), ((0, 0), (1, 1), (1, 1)), mode="edge")
    blurred = 0.6 * padded[:, 1:-1, 1:-1] + 0.1 * (
        padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    )
    grain = rng.standard_normal(colour.shape, dtype=np.float32) * rng.uniform(*noise)
    pixels: NDArray[np.uint8] = np.clip(255 * (np.sqrt(blurred) + grain), 0, 255).astype(np.uint8)
    return pixels
