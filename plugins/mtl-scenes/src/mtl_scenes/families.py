"""Surfaces by class: a family of colours and patterns for each, with variation, in which neighbours overlap.

Shape letters: M materials.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mtl_scenes.materials import Materials

_PLAIN, _CHECKER, _STRIPES, _WOOD, _BRICKS, _CLOUDS, _DOTS = range(7)

_Triple = tuple[float, float, float]


class _Family(NamedTuple):
    """What a class's surfaces are drawn from.

    :param low: hue in turns (may be negative), saturation and value of the linear colour, at least
    :param high: and at most
    :param patterns: positions in ``materials.PATTERNS``
    """

    low: _Triple
    high: _Triple
    patterns: tuple[int, ...]


_FAMILIES = {
    "floor": _Family((0.03, 0.45, 0.3), (0.12, 0.75, 0.55), (_WOOD, _WOOD, _CHECKER)),
    "ceiling": _Family((0.0, 0.0, 0.75), (1.0, 0.08, 0.95), (_PLAIN,)),
    "wall": _Family((0.0, 0.05, 0.5), (1.0, 0.35, 0.8), (_PLAIN, _PLAIN, _CLOUDS, _BRICKS)),
    "window": _Family((0.5, 0.15, 0.8), (0.6, 0.45, 0.95), (_PLAIN,)),
    "door": _Family((-0.02, 0.6, 0.15), (0.05, 0.85, 0.35), (_WOOD, _PLAIN)),
    "picture": _Family((0.0, 0.6, 0.4), (1.0, 0.95, 0.9), (_DOTS, _CHECKER, _CLOUDS)),
    "cabinet": _Family((0.07, 0.65, 0.45), (0.14, 0.95, 0.8), (_PLAIN, _WOOD)),
    "shelf": _Family((0.24, 0.5, 0.3), (0.38, 0.85, 0.6), (_PLAIN, _WOOD)),
    "table": _Family((0.72, 0.35, 0.3), (0.84, 0.7, 0.65), (_PLAIN, _WOOD)),
    "chair": _Family((0.92, 0.6, 0.45), (1.02, 0.95, 0.8), (_PLAIN, _STRIPES)),
    "sofa": _Family((0.56, 0.55, 0.2), (0.7, 0.9, 0.6), (_PLAIN, _STRIPES, _CLOUDS)),
    "lamp": _Family((0.1, 0.2, 0.75), (0.18, 0.6, 0.95), (_PLAIN,)),
    "object": _Family((0.4, 0.5, 0.35), (0.54, 0.95, 0.75), (_PLAIN, _DOTS, _STRIPES)),
}


def draw(rng: Generator, classes: Sequence[str]) -> Materials:
    """A surface for each class named, none of which shines.

    :param classes: M names
    """
    rows = [_FAMILIES[name] for name in classes]
    count = len(classes)
    hue, saturation, value = rng.uniform([row.low for row in rows], [row.high for row in rows]).T
    hues = hue + rng.normal(0, 0.02, (2, count))
    values = value * np.stack([np.ones(count), rng.uniform(0.5, 0.85, count)])
    colours = _rgb(hues, np.stack([saturation, saturation]), values)
    return Materials(
        np.array([rng.choice(row.patterns) for row in rows]),
        np.clip(colours, 0.02, 0.95).transpose(2, 1, 0).astype(np.float32),
        rng.uniform(0.25, 0.7, count).astype(np.float32),
        rng.choice([0.0, np.pi / 2], count).astype(np.float32),
        np.zeros(count, np.float32),
    )


def _rgb(hue: NDArray[np.float64], saturation: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Red, green and blue (3, …) of hue (in turns), saturation and value, each (…)."""
    turns = np.stack([(6 * hue + shift) % 6 for shift in (0, 4, 2)])
    share: NDArray[np.float64] = value * (1 - saturation + saturation * np.clip(np.abs(turns - 3) - 1, 0, 1))
    return share
