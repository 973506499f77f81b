"""Depth and disparity.

Shape letters: H and W image size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs
import numpy as np
import torch
from attrs import field
from torch import Tensor

from mtl_core import Depth, help
from mtl_data import metres, resize_nearest
from mtl_folder.files import Raw, Unfit
from mtl_folder.kinds.base import Scaled, listed, one_channel, range_check
from mtl_folder.schema import valid

_METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
_NEAREST = 0.02
_FARTHEST = 1000.0
"""Metres that a depth map hardly goes beyond."""
_FEW = 32
"""Distinct values that a map of distances hardly has so few of."""


@attrs.frozen(kw_only=True)
class _Distance(Scaled):
    """A distance, or its reciprocal, per pixel; 0 and what is not finite are missing."""

    range: tuple[float, float] | None = field(
        default=None,
        validator=valid(range_check),
        metadata=help("lowest and highest value that may be, in the unit of the task"),
    )

    def label(self, raw: Raw) -> Tensor:
        one = Raw(raw.path, one_channel(raw, "are these images, or pictures made for looking at?"))
        values = self.numbers(one, self._factor)
        label = metres(np.where(one.values == 0, np.float32("nan"), values))
        self._check_range(label)
        return label

    @property
    def _factor(self) -> float:
        return self.scale or 1.0

    def _check_range(self, label: Tensor) -> None:
        if self.range is None or not (label > 0).any():
            return
        known = label[label > 0]
        low = float(known.min())
        high = float(known.max())
        if low < self.range[0] or high > self.range[1]:
            expected = f"{self.range[0]:g} to {self.range[1]:g}"
            raise Unfit(f"values {low:.4g} to {high:.4g}", expected, "correct range, scale or unit, or the file")

    def resized(self, label: Tensor, size: tuple[int, int]) -> Tensor:
        return resize_nearest(label, size)

    def blank(self, size: tuple[int, int]) -> Tensor:
        return torch.zeros(1, *size)

    def doubts(self, raw: Raw, label: Tensor) -> Iterator[Unfit]:
        if not (label > 0).any():
            finite = np.isfinite(raw.values)
            nothing = "no value above 0" if finite.any() else "no finite value"
            yield Unfit(f"{nothing} in the whole label", "distances", "look at scale and ignored, and at the file")
        elif raw.is_whole and len(found := np.unique(raw.values)) <= _FEW and self.range is None:
            remedy = "are these files of another task (classes)? if they are right, write a range"
            yield Unfit(f"only {len(found)} different values ({listed(found)})", "a distance per pixel", remedy)


@attrs.frozen(kw_only=True)
class DepthFiles(_Distance):
    """Depth along the optical axis: a picture of 16 bits or an array."""

    kind: Literal["depth"] = field(metadata=help("kind of task"))
    unit: Literal["m", "cm", "mm"] | None = field(
        default=None, metadata=help("unit of the file's values, after scale; none: metres")
    )

    def task(self, name: str) -> Depth:
        return Depth(name=name)

    @property
    def _factor(self) -> float:
        return (self.scale or 1.0) * _METRES[self.unit or "m"]

    def doubts(self, raw: Raw, label: Tensor) -> Iterator[Unfit]:
        if any_doubt := next(super().doubts(raw, label), None):
            yield any_doubt
            return
        known = label[label > 0]
        low = float(known.min())
        high = float(known.max())
        if raw.is_whole and self.scale is None and self.unit is None:
            remedy = 'write unit = "mm", "cm" or "m", or a scale'
            if raw.values.dtype == np.uint8:
                remedy += "; 8 bits are mostly a picture for looking at"
            yield Unfit(f"whole numbers {low:g} to {high:g}, taken as metres", "the unit of whole numbers", remedy)
        elif self.range is None and high > _FARTHEST:
            remedy = f'if these are millimetres: unit = "mm"; if they are right: range = [0, {high:.3g}]'
            yield Unfit(f"depth up to {high:.4g} m", f"at most {_FARTHEST:g} m", remedy)
        elif self.range is None and high < _NEAREST:
            remedy = f"are scale and unit both there? if it is right: range = [0, {_NEAREST:g}]"
            yield Unfit(f"depth of {high:.2g} m at most", f"more than {_NEAREST:g} m", remedy)


@attrs.frozen(kw_only=True)
class DisparityFiles(_Distance):
    """Disparity: a picture of 16 bits or an array."""

    kind: Literal["disparity"] = field(metadata=help("kind of task"))
    unit: str = field(default="", metadata=help("unit of the values, after scale, such as px"))

    def task(self, name: str) -> Depth:
        return Depth(name=name, disparity=True)
