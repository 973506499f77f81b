"""Curves as inline SVG, without a plotting library. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from html import escape

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
    low, high = min(values), max(values)
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin


def _whole(values: Sequence[float]) -> list[float]:
    """The ticks of epochs: there is none between two."""
    return [value for value in values if value == round(value)]


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
    kept = {name: [(a, b) for a, b in points if math.isfinite(b)] for name, points in curves.items()}
    kept = {name: points for name, points in kept.items() if points}
    if not kept:
        return ""
    tints = {name: COLOURS[(hues or {}).get(name, place) % len(COLOURS)] for place, name in enumerate(kept)}
    xs, ys = ([p[axis] for points in kept.values() for p in points] for axis in (0, 1))
    (x0, x1), (y0, y1) = (min(xs), max(max(xs), min(xs) + 1)), _bounds(ys)
    rungs = _ticks(y0, y1) if len(_ticks(y0, y1)) > 2 else _ticks(y0, y1, 8)
    texts = _labels(rungs)
    left = 12 + _DIGIT * max((len(text) for text in texts), default=0)

    def place(a: float, b: float) -> tuple[float, float]:
        return (
            left + (a - x0) / (x1 - x0) * (_WIDTH - left - _RIGHT),
            _TOP + (y1 - b) / (y1 - y0) * (_HEIGHT - _TOP - _BOTTOM),
        )

    lines = [_horizontal(left, place(x0, b)[1], text) for b, text in zip(rungs, texts, strict=True)]
    marks = _whole(_ticks(x0, x1, 6)) if len(set(xs)) > 1 else [x0]
    lines += [f'<text x="{place(a, y0)[0]:.1f}" y="{_HEIGHT - 24}" class="m">{a:g}</text>' for a in marks]
    lines.append(f'<text x="{(left + _WIDTH - _RIGHT) / 2:.1f}" y="{_HEIGHT - 8}" class="m">{escape(x)}</text>')
    lines.append(f'<text x="4" y="14">{escape(y)}</text>' if y else "")
    for name, points in kept.items():
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(*p) for p in points))
        kind = ' class="d"' if name in dashed else ""
        lines.append(f'<polyline points="{path}" stroke="{tints[name]}"{kind}><title>{escape(name)}</title></polyline>')
        a, b = place(*points[-1])
        lines.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2" fill="{tints[name]}"/>')
    about = f"{title}: {', '.join(kept)} over {x}"
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(about)}">{"".join(lines)}</svg>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}{_legend(kept, tints, dashed)}</figure>"


def _horizontal(left: float, y: float, label: str) -> str:
    return (
        f'<line x1="{left:.1f}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="g"/>'
        f'<text x="{left - 5:.1f}" y="{y + 4:.1f}" class="e">{label}</text>'
    )


def _legend(curves: _Curves, tints: Mapping[str, str], dashed: Collection[str]) -> str:
    items = [
        f"<span><i{' class=d' if name in dashed else ''} style='border-color:{tints[name]}'></i>"
        f"{escape(name)} <b>{points[-1][1]:.4g}</b></span>"
        for name, points in curves.items()
    ]
    return f'<div class="legend">{"".join(items)}</div>'
