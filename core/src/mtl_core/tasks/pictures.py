"""Values as colours.

Shape letters: C classes, H and W image size.
"""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_STOPS = np.array([[13, 8, 60], [84, 20, 120], [158, 40, 100], [220, 75, 60], [250, 150, 30], [250, 245, 150]], float)
"""Dark to light: near to far, low to high."""


def palette(classes: int) -> Pixels:
    """A colour per class, (C, 3): hues a golden ratio apart, in two strengths."""
    rows = [
        colorsys.hsv_to_rgb((0.08 + 0.618034 * c) % 1, 0.45 + 0.35 * (c % 2), 0.95 - 0.2 * (c % 3))
        for c in range(classes)
    ]
    return np.asarray(np.array(rows) * 255, np.uint8)


def graded(values: NDArray[Any], low: float, high: float) -> Pixels:
    """Values (H, W) on a dark-to-light scale from ``low`` to ``high``."""
    share = np.clip((np.nan_to_num(values) - low) / max(high - low, 1e-9), 0, 1) * (len(_STOPS) - 1)
    channels = [np.interp(share, np.arange(len(_STOPS)), _STOPS[:, c]) for c in range(3)]
    return np.stack(channels, -1).astype(np.uint8)


def grey(values: NDArray[Any], low: float, high: float) -> Pixels:
    """Values (H, W) from black to white."""
    share = np.clip((np.nan_to_num(values) - low) / max(high - low, 1e-9), 0, 1)
    return np.repeat((share * 255).astype(np.uint8)[..., None], 3, -1)
