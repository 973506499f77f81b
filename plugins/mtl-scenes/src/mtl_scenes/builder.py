"""Puts furniture into a room without collisions, and gives the solids that result."""

from __future__ import annotations

import attrs
import numpy as np

from mtl_scenes.furniture import CLASSES, OWN_SLOTS, SLOTS, Item, Part
from mtl_scenes.geometry import BOX, Solids

_Footprint = tuple[float, float, float, float]
_Place = tuple[float, float, float]
"""x and z in metres, and the turn in radians."""


@attrs.define
class Builder:
    """A room that is being furnished.

    :param room: width, height, depth in metres
    :param painted: the class of each material; the first three are the floor's, ceiling's and walls'
    """

    room: tuple[float, float, float]
    rows: list[tuple[Part, str, int, _Place]] = attrs.Factory(list)
    taken: list[_Footprint] = attrs.Factory(list)
    painted: list[str] = attrs.Factory(lambda: ["floor", "ceiling", "wall"])

    def add(self, item: Item, place: _Place) -> None:
        """Put an item down with materials of its own."""
        first = len(self.painted)
        self.rows += [(part, part.label or item.label, first + part.slot, place) for part in item.parts]
        self.painted += [item.label] * OWN_SLOTS + ["object"] * (SLOTS - OWN_SLOTS)

    def try_to_add(self, item: Item, place: _Place, gap: float = 0.03) -> bool:
        """Put an item down if it is inside the room and clear of the others."""
        x, z, turn = place
        c = abs(np.cos(turn))
        s = abs(np.sin(turn))
        w = (c * item.width + s * item.depth) / 2 + gap
        d = (s * item.width + c * item.depth) / 2 + gap
        inside = abs(x) + w <= self.room[0] / 2 + gap and abs(z) + d <= self.room[2] / 2 + gap
        clear = all(abs(x - a) >= w + p or abs(z - b) >= d + q for a, b, p, q in self.taken)
        if inside and clear:
            self.taken.append((x, z, w, d))
            self.add(item, place)
        return inside and clear

    def at_wall(self, item: Item, wall: int, along: float) -> _Place:
        """Where an item stands with its back to a wall (0 ahead, 1 left, 2 right), ``along`` it from -1 to 1."""
        back = item.depth / 2 + 0.03 * (item.depth > 0)
        if wall == 0:
            return along * (self.room[0] - item.width) / 2, self.room[2] / 2 - back, 0.0
        side = -1 if wall == 1 else 1
        return side * (self.room[0] / 2 - back), along * (self.room[2] - item.width) / 2, -side * np.pi / 2

    def solids(self) -> Solids:
        half = np.array(self.room) / 2
        rows = [(Part(BOX, (0, -half[1], 0), tuple(half)), "wall", 0, (0.0, 0.0, 0.0)), *self.rows]
        x, y, z = np.array([part.centre for part, *_ in rows]).T
        right, ahead, turn = np.array([place for *_, place in rows]).T
        c = np.cos(turn)
        s = np.sin(turn)
        return Solids(
            np.array([part.kind for part, *_ in rows]),
            np.stack([c * x + s * z + right, y, -s * x + c * z + ahead], 1).astype(np.float32),
            np.array([part.half for part, *_ in rows], np.float32),
            turn.astype(np.float32),
            np.array([CLASSES.index(label) for _, label, *_ in rows]),
            np.array([material for _, _, material, _ in rows]),
        )
