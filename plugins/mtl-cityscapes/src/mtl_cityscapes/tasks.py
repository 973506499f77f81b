"""The kinds of depth that Cityscapes is learned with.

Shape letters: B samples, H and W image size.
"""

from __future__ import annotations

import math
from typing import ClassVar

import attrs
from torch import Tensor

from mtl_cityscapes.depths import UNKNOWN
from mtl_cityscapes.labels import CLASSES, PARTS
from mtl_core import Depth, Segmentation, Task


@attrs.frozen(kw_only=True)
class Disparity(Depth):
    """Disparity in pixels of the image: labels float (B, 1, H, W), −1 where invalid, 0 infinitely far; L1.

    An enlargement by s multiplies it by s; where ``divided``, it is divided by s.
    """

    disparity: bool = True
    divided: bool = False
    ignored: ClassVar[float] = UNKNOWN

    def valid(self, target: Tensor) -> Tensor:
        return (target >= 0) & (target < math.inf)

    def zoom(self, target: Tensor, scale: float | Tensor) -> Tensor:
        return target / scale if self.divided else target * scale


@attrs.frozen(kw_only=True)
class PublishedDisparity(Disparity):
    """Raw disparity / 65535, as in MTAN's arrays: labels float (B, 1, H, W), 0 where invalid; L1."""

    ignored: ClassVar[float] = 0.0

    def valid(self, target: Tensor) -> Tensor:
        return (target > 0) & (target < math.inf)


def make_task(name: str, classes: int, depth: str, zoom: str) -> Task:
    """One of the tasks by its name; the other arguments are the plugin's options."""
    if name == "segmentation":
        return Segmentation(name=name, channels=classes, classes=CLASSES[classes])
    if name == "parts":
        return Segmentation(name=name, channels=len(PARTS), classes=PARTS)
    if depth == "metres":
        return Depth(name=name)
    kind = Disparity if depth == "disparity" else PublishedDisparity
    return kind(name=name, divided=zoom == "mtan")
