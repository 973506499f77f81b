"""Procedural surfaces: two colours and a pattern. All classes share them: colour does not identify a class.

Shape letters: M materials, H and W image size.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np
from numpy.random import Generator

from mtl_scenes.geometry import Array, Index

_LATTICE = np.random.default_rng(0).random((64, 64), dtype=np.float32)


@attrs.frozen
class Materials:
    """M surfaces: pattern (M,), two colours (M, 2, 3) in linear light, period (M,) in metres, tilt (M,), glow (M,)."""

    pattern: Index
    colours: Array
    period: Array
    tilt: Array
    glow: Array


def draw(rng: Generator, count: int) -> Materials:
    """``count`` random surfaces that do not shine."""
    value = rng.uniform(0.12, 0.85, (count, 2, 1))
    chroma = rng.uniform(0, 0.75, (count, 1, 1)) ** 1.3
    colours = value * (1 + chroma * rng.uniform(-1, 1, (count, 2, 3)) * 1.6)
    tilt = rng.choice([0.0, 0.0, np.pi / 2, np.pi / 4, 0.3], count)
    return Materials(
        rng.choice(len(_PATTERNS), count, p=_WEIGHTS),
        np.clip(colours, 0.03, 0.95).astype(np.float32),
        rng.uniform(0.08, 0.6, count).astype(np.float32),
        tilt.astype(np.float32),
        np.zeros(count, np.float32),
    )


def albedo(materials: Materials, which: Index, u: Array, v: Array, footprint: Array) -> Array:
    """Colour (3, H, W) of surface points.

    :param which: (H, W) row of the materials
    :param u: (H, W) metres along the surface, and v across
    :param footprint: (H, W) size of a pixel on the surface, metres: patterns finer than that fade to their mean
    """
    period = materials.period[which]
    tilt = materials.tilt[which]
    cos = np.cos(tilt)
    sin = np.sin(tilt)
    a = (cos * u - sin * v) / period
    b = (sin * u + cos * v) / period
    blend = np.zeros_like(u)
    pattern = materials.pattern[which]
    for number, paint in enumerate(_PATTERNS):
        there = pattern == number
        blend[there] = paint(a[there], b[there])
    sharp = 1 / (1 + (1.5 * footprint / period) ** 2)
    first = materials.colours[:, 0].T[:, which]
    second = materials.colours[:, 1].T[:, which]
    return first + (0.5 + (blend - 0.5) * sharp) * (second - first)


def _noise(a: Array, b: Array) -> Array:
    """Value noise of period 1, in 0..1."""
    i = np.floor(a).astype(np.int64)
    j = np.floor(b).astype(np.int64)
    s = a - i
    t = b - j
    s = s * s * (3 - 2 * s)
    t = t * t * (3 - 2 * t)
    i0 = i & 63
    i1 = (i + 1) & 63
    j0 = j & 63
    j1 = (j + 1) & 63
    near = _LATTICE[i0, j0] * (1 - s) + _LATTICE[i1, j0] * s
    far = _LATTICE[i0, j1] * (1 - s) + _LATTICE[i1, j1] * s
    value: Array = near * (1 - t) + far * t
    return value


def _plain(a: Array, b: Array) -> Array:
    return 0.15 * _noise(2 * a, 2 * b)


def _checker(a: Array, b: Array) -> Array:
    return (np.floor(a) + np.floor(b)) % 2


def _stripes(a: Array, b: Array) -> Array:
    return np.floor(2 * a) % 2


def _wood(a: Array, b: Array) -> Array:
    board = np.floor(a)
    grain = 0.5 + 0.35 * np.sin(9 * (a + 1.5 * _noise(0.6 * a + 7 * board, 0.4 * b)))
    return np.where(a - board < 0.06, 0.0, grain * (0.6 + 0.4 * _LATTICE[board.astype(np.int64) & 63, 0]))


def _bricks(a: Array, b: Array) -> Array:
    row = np.floor(2 * b)
    return np.where(((a + 0.5 * (row % 2)) % 1 < 0.05) | (2 * b - row < 0.1), 1.0, 0.3 * _noise(5 * a, 5 * b))


def _clouds(a: Array, b: Array) -> Array:
    return 0.6 * _noise(a, b) + 0.4 * _noise(3 * a, 3 * b)


def _dots(a: Array, b: Array) -> Array:
    return ((a % 1 - 0.5) ** 2 + (b % 1 - 0.5) ** 2 < 0.09).astype(np.float32)


_PATTERNS: tuple[Callable[[Array, Array], Array], ...] = (_plain, _checker, _stripes, _wood, _bricks, _clouds, _dots)
_WEIGHTS = (0.34, 0.08, 0.1, 0.18, 0.08, 0.14, 0.08)
