"""Convex solids as unit shapes, each stretched, turned about the vertical and moved; and the camera that sees them.

World frame: x right, y down, z forward, metres; the floor is y = 0. Camera frame: x right, y down, z forward.
Shape letters: S solids, H and W image size. Vectors lie on the first axis: (3, H, W).
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Index = NDArray[np.int64]

BOX = 0
CYLINDER = 1
SPHERE = 2
NEAR = 0.05


@attrs.frozen
class Solids:
    """S solids; the first is the room, a box that is seen from inside.

    :param kind: (S,) BOX, CYLINDER (upright) or SPHERE
    :param centre: (S, 3) metres
    :param half: (S, 3) half extents, metres
    :param turn: (S,) radians about the vertical
    :param label: (S,) class
    :param material: (S,) row of the materials
    """

    kind: Index
    centre: Array
    half: Array
    turn: Array
    label: Index
    material: Index


@attrs.frozen
class Camera:
    """A pinhole: ``rotation`` (3, 3) takes camera vectors to the world; ``focal`` is in units of the image's width."""

    position: Array
    rotation: Array
    focal: float

    def rays(self, size: tuple[int, int]) -> Array:
        """Directions (3, H, W) in the camera frame with z = 1, so that distance along a ray is depth."""
        height, width = size
        x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / (self.focal * width)
        y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / (self.focal * width)
        return np.stack([*np.meshgrid(x, y), np.ones(size, np.float32)]).astype(np.float32)

    def to_world(self, vectors: Array) -> Array:
        return np.tensordot(self.rotation, vectors, 1)

    def to_camera(self, vectors: Array) -> Array:
        return np.tensordot(self.rotation.T, vectors, 1)


def turned(vectors: Array, cos: Array | float, sin: Array | float) -> Array:
    """Vectors (3, …) turned about the vertical."""
    x, y, z = vectors
    return np.stack([cos * x - sin * z, y, sin * x + cos * z])


def interval(kind: int, origin: Array, direction: Array) -> tuple[Array, Array]:
    """Where rays enter and leave a unit shape; enter > leave where they miss it.

    :param origin: (3, 1, 1), in the unit shape's frame
    :param direction: (3, H, W), no component exactly 0
    """
    if kind == BOX:
        return _slab(origin, direction)
    if kind == SPHERE:
        return _ball(origin, direction)
    sides = _ball(origin[::2], direction[::2])
    caps = _slab(origin[1:2], direction[1:2])
    return np.maximum(sides[0], caps[0]), np.minimum(sides[1], caps[1])


def _slab(origin: Array, direction: Array) -> tuple[Array, Array]:
    inverse = 1 / direction
    middle = -origin * inverse
    reach = np.abs(inverse)
    enter = middle - reach
    leave = middle + reach
    for other in range(1, len(enter)):
        np.maximum(enter[0], enter[other], out=enter[0])
        np.minimum(leave[0], leave[other], out=leave[0])
    return enter[0], leave[0]


def _ball(origin: Array, direction: Array) -> tuple[Array, Array]:
    """Through the point of closest approach: the textbook discriminant cancels in single precision."""
    square = (direction * direction).sum(0)
    closest = -(origin * direction).sum(0) / square
    offset = origin + closest * direction
    reach = np.sqrt(np.maximum(1 - (offset * offset).sum(0), 0) / square)
    outside = reach == 0
    return np.where(outside, np.inf, closest - reach), np.where(outside, -np.inf, closest + reach)


def into_units(solids: Solids, origin: Array) -> tuple[Array, Array]:
    """Matrices (S, 3, 3) from the world's directions to those of each unit shape, and ``origin`` there (S, 3, 1, 1)."""
    cos = np.cos(solids.turn)
    sin = np.sin(solids.turn)
    zero = np.zeros_like(solids.turn)
    rows = [[cos, zero, -sin], [zero, zero + 1, zero], [sin, zero, cos]]
    matrices = np.moveaxis(np.array(rows, np.float32), 2, 0) / solids.half[:, :, None]
    return matrices, (matrices @ (origin - solids.centre)[:, :, None])[..., None]


def transform(matrix: Array, directions: Array) -> Array:
    """Directions (3, H, W) times a matrix; the smallest shift keeps components from being exactly 0."""
    flat = matrix @ directions.reshape(3, -1) + np.float32(1e-9)
    return flat.reshape(directions.shape)


def windows(solids: Solids, camera: Camera, size: tuple[int, int]) -> Index:
    """The part of the image that each solid may cover: (S, 4) top, bottom, left, right; empty where it is not seen."""
    height, width = size
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 1, 8)
    local = signs * solids.half.T[:, :, None]
    corners = turned(local, np.cos(solids.turn)[:, None], -np.sin(solids.turn)[:, None]) + solids.centre.T[:, :, None]
    x, y, z = camera.to_camera(corners - camera.position[:, None, None])
    scale = camera.focal * width / np.maximum(z, NEAR)
    near = (z < NEAR).any(1)
    behind = (z < NEAR).all(1)
    bounds = [
        np.where(near, whole, np.clip(edge, 0, limit)) * ~behind
        for edge, whole, limit in (
            (np.floor((y * scale).min(1) + height / 2), 0, height),
            (np.ceil((y * scale).max(1) + height / 2), height, height),
            (np.floor((x * scale).min(1) + width / 2), 0, width),
            (np.ceil((x * scale).max(1) + width / 2), width, width),
        )
    ]
    return np.stack(bounds, 1).astype(np.int64)
