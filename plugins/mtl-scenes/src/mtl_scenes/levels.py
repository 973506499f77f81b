"""How difficult rooms are: what each level draws geometry, surfaces, light and camera from.

Ranges are (lowest, highest). Shares of the room are of its width (x) and depth (z); heights are metres above the floor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import attrs
from numpy.random import Generator

from mtl_scenes import families, furniture, materials, simple
from mtl_scenes.furniture import Item
from mtl_scenes.materials import Materials

Difficulty = Literal["easy", "medium", "hard"]
_Triple = tuple[float, float, float]
Range = tuple[float, float]
_Ranges = tuple[_Triple, _Triple]
_Make = Callable[[Generator], Item]


@attrs.frozen
class Interior:
    """What rooms hold.

    :param room: width, height and depth, metres
    :param panel: makes a window, a door or a picture for a ceiling of some height
    :param hung: where panels hang on a wall, -1 to 1, and how likely each is
    :param at_wall: what stands at walls, each once
    :param more: how many of these again
    :param along: where along a wall, -1 to 1 (for side walls: near to far)
    :param chance: of each piece at a wall
    :param standing: what stands in the room, and how likely each is
    :param ahead: where along the depth, shares
    """

    room: _Ranges
    panel: Callable[[Generator, str, float], Item]
    hung: tuple[tuple[float, ...], float]
    at_wall: tuple[_Make, ...]
    more: int
    along: Range
    chance: float
    standing: tuple[tuple[_Make, float], ...]
    ahead: Range


@attrs.frozen
class Viewpoint:
    """Where the camera is and looks.

    :param eye: share of the width, height, metres from the near wall
    :param target: share of the width, y (down, metres), share of the depth
    :param roll: standard deviation, radians
    :param angle: horizontal field of view, degrees
    """

    eye: _Ranges
    target: _Ranges
    roll: float
    angle: Range


@attrs.frozen
class Appearance:
    """Surfaces, light and sensor.

    :param surfaces: draws a material for each class named
    :param glow: of what shines
    :param lights: two places each, lowest and highest: shares of width, height (upwards negative) and depth
    :param tint: of the lights, from -tint to tint
    :param power: of the first light and of the second
    :param ambient: light from everywhere
    :param gain: the image's mean after exposure, linear
    :param noise: standard deviation, shares of white
    """

    surfaces: Callable[[Generator, Sequence[str]], Materials]
    glow: Range
    lights: tuple[tuple[_Triple, _Triple], tuple[_Triple, _Triple]]
    tint: float
    power: tuple[Range, Range]
    ambient: Range
    gain: Range
    noise: Range


@attrs.frozen
class Level:
    interior: Interior
    viewpoint: Viewpoint
    appearance: Appearance


def _any_surfaces(rng: Generator, classes: Sequence[str]) -> Materials:
    """The same distribution for every class."""
    return materials.draw(rng, len(classes))


_CROWDED = Interior(
    room=((3.0, 2.35, 3.6), (5.5, 3.0, 6.5)),
    panel=furniture.panel,
    hung=((-0.55, 0.55), 0.7),
    at_wall=(furniture.cabinet, furniture.shelf, furniture.sofa),
    more=2,
    along=(-0.8, 1.0),
    chance=0.8,
    standing=(
        (furniture.table, 0.8), (furniture.lamp, 0.8), *[(furniture.chair, 0.7)] * 3, *[(furniture.thing, 0.5)] * 2,
    ),
    ahead=(-0.3, 0.5),
)  # fmt: skip
_SPARSE = Interior(
    room=((3.6, 2.4, 4.0), (4.8, 2.7, 5.2)),
    panel=simple.panel,
    hung=((0.0,), 0.75),
    at_wall=(simple.cabinet, simple.shelf, simple.sofa),
    more=0,
    along=(0.0, 1.0),
    chance=0.6,
    standing=((simple.table, 0.6), (simple.lamp, 0.6), (simple.chair, 0.7), (simple.thing, 0.7)),
    ahead=(-0.05, 0.45),
)

_ANYWHERE = Viewpoint(
    eye=((-0.35, 1.0, 0.25), (0.35, 1.9, 0.9)),
    target=((-0.4, -1.5, 0.0), (0.4, -0.3, 0.5)),
    roll=0.025,
    angle=(52, 80),
)
_STEADY = Viewpoint(
    eye=((-0.2, 1.35, 0.25), (0.2, 1.65, 0.5)),
    target=((-0.2, -1.2, 0.35), (0.2, -0.9, 0.5)),
    roll=0.01,
    angle=(64, 74),
)

_ALIKE = Appearance(
    surfaces=_any_surfaces,
    glow=(0.5, 2.0),
    lights=(((-0.4, -0.97, -0.4),) * 2, ((0.4, -0.8, 0.4),) * 2),
    tint=0.2,
    power=((3.0, 6.0), (0.5, 2.5)),
    ambient=(0.25, 0.5),
    gain=(0.25, 0.42),
    noise=(0.01, 0.03),
)
_BY_CLASS = Appearance(
    surfaces=families.draw,
    glow=(0.3, 0.8),
    lights=(((-0.4, -0.97, -0.35), (-0.3, -0.97, -0.4)), ((-0.3, -0.85, -0.2), (0.3, -0.8, 0.4))),
    tint=0.06,
    power=((5.0, 6.0), (0.4, 0.8)),
    ambient=(0.28, 0.36),
    gain=(0.34, 0.4),
    noise=(0.004, 0.012),
)

LEVELS: dict[str, Level] = {
    "easy": Level(_SPARSE, _STEADY, _BY_CLASS),
    "medium": Level(_CROWDED, _ANYWHERE, _BY_CLASS),
    "hard": Level(_CROWDED, _ANYWHERE, _ALIKE),
}
