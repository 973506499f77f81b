"""Furniture of few large solids, which a small image shows whole; frame and heights as in :mod:`furniture`."""

from __future__ import annotations

from numpy.random import Generator

from mtl_scenes.furniture import GLOWING, Item, block, globe, hung, pillar


def table(rng: Generator) -> Item:
    w, d, h = rng.uniform((1.1, 0.8, 0.6), (1.6, 1.1, 0.8))
    if rng.random() < 0.4:
        return Item("table", d, d, [pillar(0, 0, d / 2, h - 0.1, h, 1), pillar(0, 0, 0.14, 0, h - 0.1)])
    ends = [block(i * (w / 2 - 0.1), 0, 0.14, 0.8 * d, 0, h - 0.1) for i in (-1, 1)]
    return Item("table", w, d, [block(0, 0, w, d, h - 0.1, h, 1), *ends])


def chair(rng: Generator) -> Item:
    w, seat, back = rng.uniform((0.5, 0.4, 0.95), (0.65, 0.5, 1.2))
    parts = [block(0, 0, w, w, seat - 0.14, seat, 1), block(0, w / 2 - 0.06, w, 0.12, seat, back, 1)]
    return Item("chair", w, w, [*parts, block(0, 0, 0.6 * w, 0.6 * w, 0, seat - 0.14)])


def sofa(rng: Generator) -> Item:
    w, d, seat, back, arm = rng.uniform((1.4, 0.85, 0.4, 0.8, 0.55), (2.0, 1.0, 0.5, 1.0, 0.7))
    arms = [block(i * (w / 2 - 0.11), 0, 0.22, d, 0, arm) for i in (-1, 1)]
    return Item("sofa", w, d, [block(0, 0, w, d, 0, seat, 1), block(0, d / 2 - 0.14, w, 0.28, seat, back), *arms])


def cabinet(rng: Generator) -> Item:
    w, d, h = rng.uniform((0.8, 0.5, 0.9), (1.4, 0.65, 1.9))
    door = block(0, -d / 2, w - 0.16, 0.04, 0.12, h - 0.08, 1)
    return Item("cabinet", w, d, [block(0, 0, w, d, 0, h), door])


def shelf(rng: Generator) -> Item:
    w, d, h = rng.uniform((0.8, 0.35, 1.2), (1.4, 0.45, 2.0))
    count = round(h / 0.45) + 1
    boards = [block(0, 0, w, d, low, low + 0.08) for low in (i * (h - 0.08) / (count - 1) for i in range(count))]
    sides = [block(i * (w / 2 - 0.04), 0, 0.08, d, 0, h) for i in (-1, 1)]
    return Item("shelf", w, d, [*sides, block(0, d / 2 - 0.02, w, 0.04, 0, h, 1), *boards])


def lamp(rng: Generator) -> Item:
    h, r = rng.uniform((1.2, 0.22), (1.7, 0.32))
    shade = globe(0, 0, r, h, GLOWING) if rng.random() < 0.5 else pillar(0, 0, r, h - r, h + r, GLOWING)
    return Item("lamp", 0.5, 0.5, [pillar(0, 0, 0.22, 0, 0.08), pillar(0, 0, 0.05, 0, h), shade])


def thing(rng: Generator) -> Item:
    r = rng.uniform(0.22, 0.38)
    shapes = (globe(0, 0, r, r), pillar(0, 0, r, 0, 1.8 * r), block(0, 0, 2 * r, 1.8 * r, 0, 1.6 * r))
    return Item("object", 2 * r, 2 * r, [shapes[rng.integers(0, 3)]])


def panel(rng: Generator, label: str, ceiling: float) -> Item:
    """A window, a door or a picture that fills much of its wall."""
    lowest, highest = {
        "door": ((0.85, 0.0, 1.95), (1.1, 0.0, 2.15)),
        "window": ((1.1, 0.75, 1.9), (1.9, 0.95, min(2.3, ceiling - 0.15))),
        "picture": ((0.8, 0.95, 1.7), (1.4, 1.15, 2.1)),
    }[label]
    w, low, high = rng.uniform(lowest, highest)
    return hung(label, w, low, high, 0.07)
