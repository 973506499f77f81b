"""Edges and other values per pixel.

Shape letters: O channels of the task, H and W image size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import attrs
import numpy as np
import torch
from attrs import field
from numpy.typing import NDArray
from torch import Tensor

from mtl_core import BinaryEdges, Regression, help
from mtl_data import channels_first, resize_nearest
from mtl_folder.files import Raw, Unfit
from mtl_folder.kinds.base import Scaled, one_channel, plane, range_check
from mtl_folder.schema import valid

_NAN = float("nan")
LARGE = 1000.0
"""A head's first predictions are near 0: values beyond this hardly get learned."""


def _count_check(value: int) -> None:
    if value < 1:
        raise ValueError(f"expected 1 or more, found {value}")


@attrs.frozen(kw_only=True)
class _Map(Scaled):
    def resized(self, label: Tensor, size: tuple[int, int]) -> Tensor:
        return resize_nearest(label, size)


@attrs.frozen(kw_only=True)
class EdgeFiles(_Map):
    """Edges, or other maps of probability, in 0..1: a grey picture (black 0, white 1) or an array."""

    kind: Literal["edges"] = field(metadata=help("kind of task"))
    inverted: bool = field(default=False, metadata=help("whether edges are dark on light"))

    def task(self, name: str) -> BinaryEdges:
        return BinaryEdges(name=name)

    def label(self, raw: Raw) -> Tensor:
        one = Raw(raw.path, one_channel(raw, "are these images, or files of another task?"))
        values = self.numbers(one, self._factor(one))
        known = values[np.isfinite(values)]
        if known.size and (known.min() < 0 or known.max() > 1):
            found = f"values {known.min():.4g} to {known.max():.4g}"
            raise Unfit(found, "0 to 1", "write a scale, or an ignored value; or are these another task's files?")
        return plane(1 - values if self.inverted else values)

    def _factor(self, raw: Raw) -> float:
        whole = {np.dtype(np.uint8): 1 / 255, np.dtype(np.uint16): 1 / 65535}
        return self.scale or whole.get(raw.values.dtype, 1.0)

    def blank(self, size: tuple[int, int]) -> Tensor:
        return torch.full((1, *size), _NAN)

    def doubts(self, raw: Raw, label: Tensor) -> Iterator[Unfit]:
        known = label[label.isfinite()]
        if not known.numel():
            yield Unfit("no valid value in the whole label", "some", "look at scale and ignored, and at the file")
        elif raw.values.dtype == np.uint8 and self.scale is None and set(np.unique(raw.values)) == {0, 1}:
            yield Unfit("0 and 1 where white is 255", "0 and 255", "write scale = 1")
        elif (known > 0.5).float().mean() > 0.5:
            share = 100 * float((known > 0.5).float().mean())
            remedy = "if edges are dark on light: inverted = true; or are these another task's files?"
            yield Unfit(f"{share:.0f} % of the pixels are edges", "less than half", remedy)


@attrs.frozen(kw_only=True)
class RegressionFiles(_Map):
    """Values per pixel: an array or a picture."""

    kind: Literal["regression"] = field(metadata=help("kind of task"))
    channels: int = field(default=1, validator=valid(_count_check), metadata=help("values per pixel"))
    unit: str = field(default="", metadata=help("unit of the values, after scale"))
    range: tuple[float, float] | None = field(
        default=None, validator=valid(range_check), metadata=help("lowest and highest value that may be")
    )

    def task(self, name: str) -> Regression:
        return Regression(name=name, channels=self.channels)

    def label(self, raw: Raw) -> Tensor:
        channels = 1 if raw.values.ndim == 2 else raw.values.shape[2]
        if channels != self.channels:
            raise Unfit(raw.form, f"{self.channels}", f"write channels = {channels}, or are these another task's?")
        values = self.numbers(raw, self.scale or 1.0)
        self._check_range(values)
        return plane(values) if raw.values.ndim == 2 else channels_first(values)

    def _check_range(self, values: NDArray[Any]) -> None:
        known = values[np.isfinite(values)]
        if self.range is not None and known.size and (known.min() < self.range[0] or known.max() > self.range[1]):
            expected = f"{self.range[0]:g} to {self.range[1]:g}"
            raise Unfit(f"values {known.min():.4g} to {known.max():.4g}", expected, "correct range or scale")

    def blank(self, size: tuple[int, int]) -> Tensor:
        return torch.full((self.channels, *size), _NAN)

    def doubts(self, raw: Raw, label: Tensor) -> Iterator[Unfit]:
        known = label[label.isfinite()]
        if not known.numel():
            yield Unfit("no finite value in the whole label", "some", "look at ignored, and at the file")
            return
        found = f"values {float(known.min()):.4g} to {float(known.max()):.4g}"
        if raw.is_whole and self.scale is None:
            remedy = "write scale = 1 if they are right, scale = 0.00392156862745098 to take 0..255 as 0..1"
            yield Unfit(f"whole numbers, {found}", "a scale for whole numbers", remedy)
        elif float(known.abs().max()) > LARGE and self.range is None and self.scale is None:
            expected = f"values below {LARGE:g}, as a head begins near 0"
            yield Unfit(found, expected, "write a scale that brings them near 1; if they are right: a range")
