"""Curves as inline SVG, without a plotting library. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Curves = Mapping[str, Sequence[tuple[float, float]]]

WIDTH = 420
HEIGHT = 230

LEFT = 56
RIGHT = 10
TOP = 12
BOTTOM = 26

COLOURS = ("#2563b0", "#c4482b", "#2d8a4e", "#8a4fb0", "#b08a1f", "#1f8f9e", "#b03a78", "#6b6b6b")


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round values within a range."""
    step = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(step))
    step = min((m for m in (1, 2, 2.5, 5, 10) if m * magnitude >= step), default=10) * magnitude
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def bounds(values: Sequence[float]) -> tuple[float, float]:
    low = min(values)
    high = max(values)
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin


def chart(title: str, curves: Curves) -> str:
    """One chart of several curves over the epochs, with a legend; values that are not finite are left out."""
    kept: dict[str, list[tuple[float, float]]] = {}
    for name, points in curves.items():
        finite = [(x, y) for x, y in points if math.isfinite(y)]
        if finite:
            kept[name] = finite
    if not kept:
        return ""
    every = [point for points in kept.values() for point in points]
    xs = [x for x, _ in every]
    x0 = min(xs)
    x1 = max(max(xs), x0 + 1)
    y0, y1 = bounds([y for _, y in every])

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT),
            TOP + (y1 - y) / (y1 - y0) * (HEIGHT - TOP - BOTTOM),
        )

    lines = [horizontal(place(x0, y)[1], f"{y:.4g}") for y in ticks(y0, y1)]
    lines += [f'<text x="{place(x, y0)[0]:.1f}" y="{HEIGHT - 8}" class="m">{x:g}</text>' for x in ticks(x0, x1)]
    for (name, points), tint in zip(kept.items(), COLOURS * len(kept), strict=False):
        placed = [place(x, y) for x, y in points]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in placed)
        lines.append(f'<polyline points="{path}" stroke="{tint}"><title>{escape(name)}</title></polyline>')
        a, b = placed[-1]
        lines.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2" fill="{tint}"/>')
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(lines)}</svg>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}{legend(kept)}</figure>"


def horizontal(y: float, label: str) -> str:
    return (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="g"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" class="e">{label}</text>'
    )


def legend(curves: Curves) -> str:
    items = [
        f'<span><i style="background:{tint}"></i>{escape(name)} <b>{points[-1][1]:.4g}</b></span>'
        for (name, points), tint in zip(curves.items(), COLOURS * len(curves), strict=False)
    ]
    return f'<div class="legend">{"".join(items)}</div>'
