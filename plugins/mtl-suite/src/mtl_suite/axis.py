"""The horizontal axis of a panel: a range of values, and round ones to label. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

_STEPS = (1.0, 2.0, 5.0, 10.0)


@attrs.frozen
class Axis:
    """Values from ``low`` to ``high`` on the pixels from ``left`` to ``right``."""

    low: float
    high: float
    left: float
    right: float

    def place(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.left + share * (self.right - self.left)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """About so many round values, at least two, and their labels, all with as many decimals."""
        step = _round_step((self.high - self.low) / count)
        if len(self._multiples(step)) < 2:
            step = _round_step(step / 2.5)
        return [(k * step, _label(k * step, step)) for k in self._multiples(step)]

    def _multiples(self, step: float) -> range:
        """The multiples of a step that the axis shows."""
        return range(math.ceil(self.low / step), math.floor(self.high / step) + 1)


def axis_of(values: Sequence[float], left: float, right: float) -> Axis:
    """An axis that shows all values, with some room at both ends."""
    low = min(values)
    high = max(values)
    room = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return Axis(low - room, high + room, left, right)


def _round_step(least: float) -> float:
    """The first of …, 0.5, 1, 2, 5, 10, 20, … that is not below ``least``."""
    magnitude = 10.0 ** math.floor(math.log10(least))
    return next(step * magnitude for step in _STEPS if step * magnitude >= least * (1 - 1e-9))


def _label(value: float, step: float) -> str:
    """A tick as text, with the decimals that its step needs."""
    if not 1e-4 <= step < 1e6:
        return f"{value:.3g}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:z.{decimals}f}".replace("-", "−")
