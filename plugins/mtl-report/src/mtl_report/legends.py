"""Keys of pictures as HTML. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_Key = Mapping[str, Any]


def keys(found: Sequence[_Key]) -> str:
    """What the colours of one picture mean, task by task."""
    known = {"classes": _classes, "range": _bar, "normals": _ball}
    shown = "".join(f"<div><b>{escape(key['task'])}</b>{known[key['kind']](key)}</div>" for key in found)
    return f"<div class='keys'>{shown}<div><b>grey stripes</b>no label there</div></div>" if shown else ""


def _classes(key: _Key) -> str:
    return " ".join(
        f"<span style='white-space:nowrap'><i style='background:{colour}'></i>{escape(name)}</span>"
        for name, colour in key["entries"]
    )


def _bar(key: _Key) -> str:
    """Colours from the darkest to the lightest, with the values at both ends."""
    low, high = key["ends"]
    smallest = 1e-3 * abs(high - low)  # what is below it is written 0
    unit = f" {escape(key['unit'])}" if key["unit"] else ""
    colours = ", ".join(key["colours"])
    ends = f"<span>≤ {_rounded(low, smallest)}{unit}</span><span>≥ {_rounded(high, smallest)}{unit}</span>"
    return (
        f"<div class='bar' style='background:linear-gradient(to right, {colours})'></div><div class='ends'>{ends}</div>"
    )


def _rounded(value: float, smallest: float) -> str:
    return f"{0.0 if abs(value) < smallest else value:.3g}"


def _ball(key: _Key) -> str:
    return (
        f"<img alt='colours of normals on a ball' width='72' src='data:image/png;base64,{key['png']}'>"
        "<div>a ball seen from the front</div>"
    )
