"""The tasks that scenes have labels for, and how each label is made from a view.

Shape letters: H and W image size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl_core import Depth, Normals, Regression, Segmentation, Task
from mtl_scenes.furniture import CLASSES
from mtl_scenes.geometry import Array, Index
from mtl_scenes.render import View

_LIGHT = np.array([0.0, -0.5, 0.0], np.float32)
"""Where reshading's light is, in the camera frame: half a metre above the camera."""


def _segmentation(view: View) -> Index:
    return view.classes


def _depth(view: View) -> Array:
    return view.depth[None]


def _normals(view: View) -> Array:
    return view.normals


def _reshading(view: View) -> Array:
    """Cosine between the normal and the direction of a light just above the camera, 0..1: no colours, no shadows."""
    towards = _LIGHT[:, None, None] - view.rays * view.depth
    cosine = (view.normals * towards).sum(0) / np.sqrt((towards * towards).sum(0))
    return _between_0_and_1(cosine)


def _occlusion_edges(view: View) -> Array:
    """Where one surface hides another: 1 at steps of 0.3 m or more off both surfaces' planes, less at smaller ones."""
    points = view.rays * view.depth
    step = np.zeros_like(view.depth)
    for axis in (0, 1):
        p = np.moveaxis(points, axis + 1, 1)
        n = np.moveaxis(view.normals, axis + 1, 1)
        s = np.moveaxis(step, axis, 0)
        between = p[:, 1:] - p[:, :-1]
        gap = np.minimum(np.abs((n[:, 1:] * between).sum(0)), np.abs((n[:, :-1] * between).sum(0)))
        for side in (s[1:], s[:-1]):
            np.maximum(side, gap, out=side)
    return _smooth(_between_0_and_1(step / 0.3)[0])[None]


def _texture_edges(view: View) -> Array:
    """Length of the image's Sobel gradient, 0..1 (1: a quarter of the range per pixel)."""
    x, y = _gradient(_brightness(view))
    return _between_0_and_1(4 * np.sqrt(x * x + y * y))


def _keypoints(view: View) -> Array:
    """How much the image is a corner: the structure tensor's smaller eigenvalue (Shi and Tomasi, CVPR 1994), 0..1."""
    x, y = _gradient(_smooth(_brightness(view)))
    xx, yy, xy = (_smooth(_smooth(product)) for product in (x * x, y * y, x * y))
    smaller = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy * xy)
    return _between_0_and_1(smaller / (np.abs(smaller) + 1.5e-3))


def _brightness(view: View) -> Array:
    value: Array = view.image.mean(0, dtype=np.float32) / 255
    return value


def _between_0_and_1(values: NDArray[np.floating[Any]]) -> Array:
    clipped: Array = np.clip(values, 0, 1).astype(np.float32)
    return clipped[None]


def _smooth(values: Array) -> Array:
    """Binomial blur, 3 × 3."""
    return _stencil(_stencil(values, (1 / 4, 1 / 2, 1 / 4), 0), (1 / 4, 1 / 2, 1 / 4), 1)


def _gradient(values: Array) -> tuple[Array, Array]:
    """Sobel's derivatives to the right and down, in units per pixel."""
    row, column = (_stencil(values, (1 / 4, 1 / 2, 1 / 4), axis) for axis in (0, 1))
    return _stencil(row, (-1 / 2, 0, 1 / 2), 1), _stencil(column, (-1 / 2, 0, 1 / 2), 0)


def _stencil(values: Array, weights: tuple[float, float, float], axis: int) -> Array:
    """Weighted sum of each value's neighbours along an axis; the border is repeated."""
    margin = [(1, 1) if i == axis else (0, 0) for i in (0, 1)]
    rows = np.moveaxis(np.pad(values, margin, mode="edge"), axis, 0)
    return np.moveaxis(weights[0] * rows[:-2] + weights[1] * rows[1:-1] + weights[2] * rows[2:], 0, axis)


_Make = Callable[[View], Array | Index]

LABELS: dict[str, tuple[Task, _Make, str]] = {
    "segmentation": (Segmentation(name="segmentation", channels=len(CLASSES), classes=CLASSES), _segmentation, "u1"),
    "depth": (Depth(name="depth"), _depth, "f4"),
    "normals": (Normals(name="normals"), _normals, "f2"),
    "occlusion_edges": (Regression(name="occlusion_edges", channels=1), _occlusion_edges, "f2"),
    "texture_edges": (Regression(name="texture_edges", channels=1), _texture_edges, "f2"),
    "keypoints": (Regression(name="keypoints", channels=1), _keypoints, "f2"),
    "reshading": (Regression(name="reshading", channels=1), _reshading, "f2"),
}
"""Task name → the task, how its label is made from a view, and the type in which it is kept."""
