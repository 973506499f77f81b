"""The tasks that Taskonomy has labels for.

Shape letters: B samples, H and W image size. p is the number in a depth file: metres · 512.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import torch
from torch import Tensor

from mtl_core import Depth, Normals, Regression, Segmentation, Task, Tasks
from mtl_taskonomy.choices import DepthForm

CLASSES = (
    "background", "bottle", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "microwave",
    "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
)  # fmt: skip
"""Values 1 to 17 of ``segment_semantic``, a subset of MS COCO's classes; 0 is uncertain."""

PER_METRE = 512.0
"""p of one metre."""
_WHOLE = math.log(2.0**16)


@attrs.frozen(kw_only=True)
class EncodedDepth(Regression):
    """Depth as a published code trains it: labels float (B, 1, H, W) without a unit, NaN where missing; L1.

    :param form: ``"log"``: log(1 + p) / log 2¹⁶ (Zamir et al., CVPR 2018; Sun et al., NeurIPS 2020); ``"standley"``:
        (p − 1500) / 1000 (Standley et al., ICML 2020)
    """

    channels: int = 1
    form: DepthForm = "log"

    def from_metres(self, metres: Tensor) -> Tensor:
        p = metres * PER_METRE
        return torch.log1p(p) / _WHOLE if self.form == "log" else (p - 1500) / 1000

    def to_metres(self, encoded: Tensor) -> Tensor:
        p = torch.expm1(encoded * _WHOLE) if self.form == "log" else encoded * 1000 + 1500
        return p / PER_METRE

    def zoom(self, target: Tensor, scale: float | Tensor) -> Tensor:
        return self.from_metres(self.to_metres(target) / scale)


def tasks_of(names: Sequence[str], depth: DepthForm = "metres") -> Tasks:
    """:param depth: the form of both depths' labels"""
    return Tasks([_task_of(name, depth) for name in names])


def _task_of(name: str, depth: DepthForm) -> Task:
    if name == "segmentation":
        return Segmentation(name=name, channels=len(CLASSES), classes=CLASSES)
    if name in ("depth", "depth_euclidean"):
        return Depth(name=name) if depth == "metres" else EncodedDepth(name=name, form=depth)
    if name == "normals":
        return Normals(name=name)
    return Regression(name=name, channels=2 if name == "principal_curvature" else 1)
