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
    ends = key["ends"]
    low, high = (f"{0.0 if abs(value) < 1e-3 * abs(ends[1] - ends[0]) else value:.3g}" for value in ends)
    unit = f" {escape(key['unit'])}" if key["unit"] else ""
    colours = ", ".join(key["colours"])
    return (
        f"<div class='bar' style='background:linear-gradient(to right, {colours})'></div>"
        f"<div class='ends'><span>≤ {low}{unit}</span><span>≥ {high}{unit}</span></div>"
    )


def _ball(key: _Key) -> str:
    return (
        f"<img alt='colours of normals on a ball' width='72' src='data:image/png;base64,{key['png']}'>"
        "<div>a ball seen from the front</div>"
    )
