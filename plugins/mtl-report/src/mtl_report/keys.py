"""What the colours of a picture mean: a task's own pictures, made of known values, as plain types.

Shape letters: C classes, O channels of a task, N colours of a bar.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import torch
from PIL import Image

from mtl_core import Normals, Task

_Key = dict[str, Any]
_Limits = tuple[float, float]

_BAR, _DISC = 24, 96
_MOST = 256
"""Classes that a key shows at most."""


def key_of(task: Task, limits: _Limits) -> _Key:
    """How a page explains one task's colours.

    :param limits: the values that are drawn darkest and lightest
    """
    if task.label_dtype == torch.long:
        return {"task": task.name, "kind": "classes", "entries": _classes(task)}
    if isinstance(task, Normals):
        return {"task": task.name, "kind": "normals", "png": _disc(task)}
    return {
        "task": task.name,
        "kind": "range",
        "ends": list(limits),
        "unit": _unit(task),
        "colours": _bar(task, limits),
    }


def _classes(task: Task) -> list[list[str]]:
    names: tuple[str, ...] = getattr(task, "classes", ())
    pixels = task.picture(torch.arange(min(task.channels, _MOST))[None], (0.0, 1.0))[0]
    return [[names[c] if c < len(names) else str(c), _hexadecimal(colour)] for c, colour in enumerate(pixels)]


def _bar(task: Task, limits: _Limits) -> list[str]:
    values = torch.linspace(*limits, _BAR).expand(task.channels, 1, _BAR)
    return [_hexadecimal(colour) for colour in task.picture(values, limits)[0]]


def _unit(task: Task) -> str:
    """Of the label: that of its absolute error."""
    return task.unit("abs_err")


def _disc(task: Task) -> str:
    """A ball seen from the front: at each place the colour of the normal that its surface has there."""
    axis = torch.linspace(-1, 1, _DISC)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    inside = x**2 + y**2 <= 1
    normals = torch.stack((x, y, -(1 - x**2 - y**2).clamp(min=0).sqrt()))
    pixels = task.picture(normals, (0.0, 1.0))
    picture = np.dstack((pixels, (inside.numpy() * 255).astype(np.uint8)))
    file = io.BytesIO()
    Image.fromarray(picture, "RGBA").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _hexadecimal(colour: Any) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in colour)
