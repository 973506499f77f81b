"""Which surface each ray meets first, and everything about the points that were met.

Shape letters: H and W image size.
"""

from __future__ import annotations

import attrs
import numpy as np

from mtl_scenes.geometry import (
    BOX,
    CYLINDER,
    NEAR,
    SPHERE,
    Array,
    Index,
    interval,
    into_units,
    transform,
    turned,
    windows,
)
from mtl_scenes.scene import Scene


@attrs.frozen
class Surface:
    """World points and normals (3, H, W), class and material (H, W), coordinates along the surface in metres."""

    points: Array
    normals: Array
    classes: Index
    material: Index
    u: Array
    v: Array


def trace(scene: Scene, directions: Array) -> tuple[Array, Index]:
    """Depth and number of the solid that each ray meets first (H, W); solids are tried only where they may be seen."""
    solids = scene.solids
    size = directions.shape[1:]
    matrices, eyes = into_units(solids, scene.camera.position)
    _, depth = interval(BOX, eyes[0], transform(matrices[0], directions))
    hit = np.zeros(size, np.int64)
    for i, (top, bottom, left, right) in enumerate(windows(solids, scene.camera, size)[1:], 1):
        if top < bottom and left < right:
            where = np.s_[top:bottom, left:right]
            rays = transform(matrices[i], directions[:, top:bottom, left:right])
            enter, leave = interval(solids.kind[i], eyes[i], rays)
            closer = (enter < leave) & (enter > NEAR) & (enter < depth[where])
            np.copyto(depth[where], enter, where=closer)
            np.copyto(hit[where], i, where=closer)
    return depth, hit


def resolve(scene: Scene, directions: Array, depth: Array, hit: Index) -> Surface:
    """Everything about the points that were hit, all pixels at once."""
    solids = scene.solids
    cos = np.cos(solids.turn)[hit]
    sin = np.sin(solids.turn)[hit]
    half = solids.half.T[:, hit]
    kind = solids.kind[hit]
    room = hit == 0
    points = scene.camera.position[:, None, None] + depth * directions
    unit = turned(points - solids.centre.T[:, hit], cos, sin) / half
    towards = -turned(directions, cos, sin)
    normals = _box_normals(unit, towards, np.where(room, -1, 1).astype(np.float32))
    for shape in (CYLINDER, SPHERE):
        there = kind == shape
        normals[:, there] = _round_normals(shape, unit[:, there], half[:, there])
    axis = np.abs(normals).argmax(0)
    metres = unit * half
    up = np.where(normals[1] < 0, 0, np.where(normals[1] > 0, 1, 2))
    return Surface(
        points,
        turned(normals, cos, -sin),
        np.where(room, up, solids.label[hit]),
        np.where(room, up, solids.material[hit]),
        np.where(axis == 0, metres[2], metres[0]),
        np.where(axis == 1, metres[2], metres[1]),
    )


def _box_normals(unit: Array, towards: Array, sense: Array) -> Array:
    """The face that a point lies on, among those that the ray can see: rounding must not choose another at an edge."""
    side = np.sign(unit) * sense
    score = np.where(side * towards > 0, np.abs(unit), -1)
    axis = score.argmax(0)
    return np.stack([np.where(axis == i, side[i], 0) for i in range(3)]).astype(np.float32)


def _round_normals(kind: int, unit: Array, half: Array) -> Array:
    outward = unit / half
    if kind == CYLINDER:
        cap = np.abs(unit[1]) > np.hypot(unit[0], unit[2])
        outward = np.where([cap, ~cap, cap], 0, outward)
    normals: Array = outward / np.sqrt((outward * outward).sum(0))
    return normals
