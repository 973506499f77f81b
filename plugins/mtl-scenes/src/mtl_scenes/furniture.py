"""Furniture as lists of solids, in the item's frame: x width, z depth with the back at +z, heights from the floor."""

from __future__ import annotations

from typing import NamedTuple

from numpy.random import Generator

from mtl_scenes.geometry import BOX, CYLINDER, SPHERE

CLASSES = (
    "floor", "ceiling", "wall", "window", "door", "picture", "cabinet",
    "shelf", "table", "chair", "sofa", "lamp", "object",
)  # fmt: skip


SLOTS = 6
OWN_SLOTS = 3
GLOWING = 2
"""Materials of an item: two of its own, one that shines, three for what lies on it."""


class Part(NamedTuple):
    """One solid; ``slot`` says which of the item's materials it has, ``label`` its class where it is not the item's."""

    kind: int
    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    slot: int = 0
    label: str = ""


class Item(NamedTuple):
    label: str
    width: float
    depth: float
    parts: list[Part]


def block(x: float, z: float, w: float, d: float, low: float, high: float, slot: int = 0, label: str = "") -> Part:
    return Part(BOX, (x, -(low + high) / 2, z), (w / 2, (high - low) / 2, d / 2), slot, label)


def pillar(x: float, z: float, r: float, low: float, high: float, slot: int = 0, label: str = "") -> Part:
    return Part(CYLINDER, (x, -(low + high) / 2, z), (r, (high - low) / 2, r), slot, label)


def globe(x: float, z: float, r: float, height: float, slot: int = 0, label: str = "") -> Part:
    return Part(SPHERE, (x, -height, z), (r, r, r), slot, label)


def _legs(w: float, d: float, thick: float, high: float) -> list[Part]:
    x = (w - thick) / 2
    z = (d - thick) / 2
    return [block(i * x, j * z, thick, thick, 0, high) for i in (-1, 1) for j in (-1, 1)]


def table(rng: Generator) -> Item:
    w, d, h, top = rng.uniform((0.9, 0.65, 0.5, 0.04), (1.8, 1.0, 0.8, 0.07))
    if rng.random() < 0.35:
        parts = [pillar(0, 0, d / 2, h - top, h, 1), pillar(0, 0, 0.06, 0, h - top), pillar(0, 0, 0.25, 0, 0.04)]
        return Item("table", d, d, parts + _things(rng, d / 2, d / 2, h))
    return Item("table", w, d, [block(0, 0, w, d, h - top, h, 1), *_legs(w, d, 0.07, h - top), *_things(rng, w, d, h)])


def _things(rng: Generator, w: float, d: float, low: float, most: int = 3) -> list[Part]:
    """Up to ``most`` small objects on a surface."""
    made = []
    for _ in range(rng.integers(0, most + 1)):
        x, z = rng.uniform(-0.38, 0.38, 2) * (w, d)
        a, b, h = rng.uniform((0.1, 0.1, 0.08), (0.25, 0.2, 0.35))
        slot = 3 + int(rng.integers(0, 3))
        shapes = (
            block(x, z, a, b, low, low + h, slot, "object"),
            pillar(x, z, a / 2, low, low + h, slot, "object"),
            globe(x, z, a / 2, low + a / 2, slot, "object"),
        )
        made.append(shapes[rng.integers(0, 3)])
    return made


def chair(rng: Generator) -> Item:
    w, seat, back = rng.uniform((0.4, 0.4, 0.75), (0.5, 0.5, 1.0))
    if rng.random() < 0.3:
        return Item("chair", w, w, [pillar(0, 0, w / 2, seat - 0.08, seat, 1), pillar(0, 0, w / 3, 0, seat - 0.08)])
    parts = [block(0, 0, w, w, seat - 0.06, seat, 1), block(0, w / 2 - 0.025, w, 0.05, seat, back, 1)]
    return Item("chair", w, w, parts + _legs(w, w, 0.045, seat - 0.06))


def sofa(rng: Generator) -> Item:
    w, d, seat, back, arm = rng.uniform((1.2, 0.8, 0.38, 0.7, 0.5), (2.2, 0.95, 0.46, 0.9, 0.65))
    parts = [block(0, 0, w, d, 0.06, seat - 0.12), block(0, d / 2 - 0.11, w, 0.22, seat, back)]
    parts += [block(i * (w / 2 - 0.08), 0, 0.16, d, seat - 0.12, arm) for i in (-1, 1)]
    inner = w - 0.34
    cushions = [block(i * inner / 4, -0.1, inner / 2 - 0.02, d - 0.24, seat - 0.12, seat, 1) for i in (-1, 1)]
    return Item("sofa", w, d, parts + cushions)


def cabinet(rng: Generator) -> Item:
    w, d, h = rng.uniform((0.5, 0.4, 0.5), (1.5, 0.6, 2.0))
    doors = [block(i * w / 4, -d / 2, w / 2 - 0.03, 0.04, 0.08, h - 0.04, 1) for i in (-1, 1)]
    top = _things(rng, w, d, h, 2) if h < 1.4 else []
    return Item("cabinet", w, d, [block(0, 0, w, d, 0, h), *doors[: 2 * int(rng.integers(0, 2))], *top])


def shelf(rng: Generator) -> Item:
    w, d, h = rng.uniform((0.7, 0.25, 0.9), (1.5, 0.38, 2.1))
    count = int(h / 0.4) + 1
    heights = [0.05 + i * (h - 0.09) / (count - 1) for i in range(count)]
    parts = [block(i * (w / 2 - 0.015), 0, 0.03, d, 0, h) for i in (-1, 1)] + [block(0, d / 2, w, 0.02, 0, h, 1)]
    for low in heights:
        parts.append(block(0, 0, w, d, low, low + 0.035))
        parts += _things(rng, w, d / 2, low + 0.035, 2) if low < h - 0.2 else []
    return Item("shelf", w, d, parts)


def lamp(rng: Generator) -> Item:
    h, r = rng.uniform((1.1, 0.14), (1.8, 0.25))
    slot = GLOWING if rng.random() < 0.5 else 1
    shade = globe(0, 0, r, h, slot) if rng.random() < 0.5 else pillar(0, 0, r, h - r, h + r, slot)
    return Item("lamp", 0.4, 0.4, [pillar(0, 0, 0.16, 0, 0.04), pillar(0, 0, 0.025, 0, h), shade])


def thing(rng: Generator) -> Item:
    r = rng.uniform(0.12, 0.25)
    shape = (globe(0, 0, r, r), pillar(0, 0, r, 0, 2 * r), block(0, 0, 2 * r, 1.6 * r, 0, 1.5 * r))[rng.integers(0, 3)]
    return Item("object", 2 * r, 2 * r, [shape])


def panel(rng: Generator, label: str, ceiling: float) -> Item:
    """A window, a door or a picture, flat against the wall: its depth counts as 0."""
    lowest, highest = {
        "door": ((0.75, 0.0, 1.95), (1.0, 0.0, 2.1)),
        "window": ((0.8, 0.7, 1.8), (1.8, 1.0, min(2.3, ceiling - 0.1))),
        "picture": ((0.4, 1.0, 1.45), (1.2, 1.3, 2.0)),
    }[label]
    w, low, high = rng.uniform(lowest, highest)
    return hung(label, w, low, high, rng.uniform(0.04, 0.06))


def hung(label: str, w: float, low: float, high: float, edge: float) -> Item:
    """A pane in a frame whose boards are ``edge`` wide."""
    pane = block(0, 0, w, 0.02, low, high, GLOWING if label == "window" else 0)
    return Item(label, w + 0.12, 0.0, [pane, *_frame(label, w, low, high, edge)])


def _frame(label: str, w: float, low: float, high: float, edge: float) -> list[Part]:
    parts = [block(i * (w + edge) / 2, 0, edge, 0.04, low, high + edge, 1) for i in (-1, 1)]
    parts.append(block(0, 0, w, 0.04, high, high + edge, 1))
    if label == "door":
        return [*parts, globe(0.4 * w, -0.04, 0.035, 1.0, 1)]
    parts.append(block(0, 0, w + 2 * edge, 0.04, low - edge, low, 1))
    if label == "window":
        middle = (low + high) / 2
        parts += [block(0, 0, 0.04, 0.04, low, high, 1), block(0, 0, w, 0.04, middle, middle + 0.04, 1)]
    return parts
