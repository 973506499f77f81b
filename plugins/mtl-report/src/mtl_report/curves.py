"""Curves as inline SVG, without a plotting library. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from html import escape

import attrs

_Curves = Mapping[str, Sequence[tuple[float, float]]]

_WIDTH, _HEIGHT = 420, 240

_RIGHT, _TOP, _BOTTOM = 14, 24, 40

_DIGIT = 6.4
"""Width of a digit in the charts, at most."""

COLOURS = ("#2563b0", "#c4482b", "#2d8a4e", "#8a4fb0", "#b08a1f", "#1f8f9e", "#b03a78", "#6b6b6b")


def _ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round values within a range."""
    step = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(step))
    step = min((m for m in (1, 2, 2.5, 5, 10) if m * magnitude >= step), default=10) * magnitude
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _labels(values: Sequence[float]) -> list[str]:
    """Ticks as text: as many digits as tell them apart, all in one form."""
    largest = max((abs(value) for value in values), default=0.0)
    if largest and not 1e-3 <= largest < 1e5:
        return [f"{value:.3g}" for value in values]
    for decimals in range(7):
        texts = [f"{value:.{decimals}f}" for value in values]
        if all(abs(float(text) - value) <= 1e-6 * largest for text, value in zip(texts, values, strict=True)):
            return texts
    return [f"{value:.3g}" for value in values]


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    """The range of the vertical axis: that of the values, and some room."""
    low = min(values)
    high = max(values)
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin


def _whole(values: Sequence[float]) -> list[float]:
    """The ticks of epochs: there is none between two."""
    return [value for value in values if value == round(value)]


@attrs.frozen
class _Plane:
    """The part of the plane that a chart shows.

    :param x: lowest and highest value of the horizontal axis
    :param y: of the vertical axis
    :param rungs: values of the horizontal lines
    """

    x: tuple[float, float]
    y: tuple[float, float]
    rungs: list[float]

    @property
    def left(self) -> float:
        """Pixels left of the plane, for the labels of the horizontal lines."""
        widest = max((len(text) for text in _labels(self.rungs)), default=0)
        return 12 + _DIGIT * widest

    def place(self, a: float, b: float) -> tuple[float, float]:
        """The pixels of a point."""
        x0, x1 = self.x
        y0, y1 = self.y
        right = (a - x0) / (x1 - x0) * (_WIDTH - self.left - _RIGHT)
        down = (y1 - b) / (y1 - y0) * (_HEIGHT - _TOP - _BOTTOM)
        return self.left + right, _TOP + down


def _plane_of(curves: _Curves) -> _Plane:
    """The plane in which all points of the curves lie."""
    points = [point for curve in curves.values() for point in curve]
    xs = [a for a, _ in points]
    y = _bounds([b for _, b in points])
    rungs = _ticks(*y)
    if len(rungs) < 3:
        rungs = _ticks(*y, 8)
    return _Plane((min(xs), max(max(xs), min(xs) + 1)), y, rungs)


def chart(
    title: str,
    curves: _Curves,
    y: str = "",
    x: str = "epoch",
    dashed: Collection[str] = (),
    hues: Mapping[str, int] | None = None,
) -> str:
    """One chart of several curves, with a legend; values that are not finite are left out.

    :param y: title of the vertical axis, such as a unit
    :param dashed: curves that are drawn dashed
    :param hues: curve → place of its colour; None: each its own
    """
    kept = _finite(curves)
    if not kept:
        return ""
    tints = _tints_of(kept, hues or {})
    plane = _plane_of(kept)
    parts = [*_grid(plane), *_epochs(plane, kept), *_axis_titles(plane, x, y)]
    for name, points in kept.items():
        parts += _curve(plane, name, points, tints[name], name in dashed)
    about = f"{title}: {', '.join(kept)} over {x}"
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(about)}">{"".join(parts)}</svg>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}{_legend(kept, tints, dashed)}</figure>"


def _finite(curves: _Curves) -> dict[str, list[tuple[float, float]]]:
    """The points with finite values, of the curves that have any."""
    found: dict[str, list[tuple[float, float]]] = {}
    for name, points in curves.items():
        if kept := [(a, b) for a, b in points if math.isfinite(b)]:
            found[name] = kept
    return found


def _tints_of(curves: _Curves, hues: Mapping[str, int]) -> dict[str, str]:
    """Curve → colour."""
    return {name: COLOURS[hues.get(name, place) % len(COLOURS)] for place, name in enumerate(curves)}


def _grid(plane: _Plane) -> list[str]:
    """The horizontal lines with their labels."""
    left = plane.left
    lines = []
    for value, text in zip(plane.rungs, _labels(plane.rungs), strict=True):
        _, y = plane.place(plane.x[0], value)
        lines.append(
            f'<line x1="{left:.1f}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="g"/>'
            f'<text x="{left - 5:.1f}" y="{y + 4:.1f}" class="e">{text}</text>'
        )
    return lines


def _epochs(plane: _Plane, curves: _Curves) -> list[str]:
    """The numbers below the horizontal axis."""
    different = {a for points in curves.values() for a, _ in points}
    marks = _whole(_ticks(*plane.x, 6)) if len(different) > 1 else [plane.x[0]]
    lines = []
    for mark in marks:
        x, _ = plane.place(mark, plane.y[0])
        lines.append(f'<text x="{x:.1f}" y="{_HEIGHT - 24}" class="m">{mark:g}</text>')
    return lines


def _axis_titles(plane: _Plane, x: str, y: str) -> list[str]:
    middle = (plane.left + _WIDTH - _RIGHT) / 2
    below = f'<text x="{middle:.1f}" y="{_HEIGHT - 8}" class="m">{escape(x)}</text>'
    return [below, f'<text x="4" y="14">{escape(y)}</text>' if y else ""]


def _curve(plane: _Plane, name: str, points: Sequence[tuple[float, float]], tint: str, dashed: bool) -> list[str]:
    """A line through the points, and a dot on the last."""
    placed = [plane.place(a, b) for a, b in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    kind = ' class="d"' if dashed else ""
    x, y = placed[-1]
    return [
        f'<polyline points="{path}" stroke="{tint}"{kind}><title>{escape(name)}</title></polyline>',
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{tint}"/>',
    ]


def _legend(curves: _Curves, tints: Mapping[str, str], dashed: Collection[str]) -> str:
    """The name of each curve with its last value."""
    items = []
    for name, points in curves.items():
        kind = " class=d" if name in dashed else ""
        _, last = points[-1]
        mark = f"<i{kind} style='border-color:{tints[name]}'></i>"
        items.append(f"<span>{mark}{escape(name)} <b>{last:.4g}</b></span>")
    return f'<div class="legend">{"".join(items)}</div>'
