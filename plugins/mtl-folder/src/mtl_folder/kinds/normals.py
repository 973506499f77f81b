"""Surface normals.

Shape letters: H and W image size.
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

from mtl_core import Normals, help
from mtl_data import channels_first, resize_normals, unit
from mtl_folder.files import Raw, Unfit
from mtl_folder.kinds.base import Scaled

_AXES = ("x", "y", "z")
_LONGEST = 1.1
_SHORTEST = 0.9
"""Lengths of vectors that are meant to be 1, with what 8 bits lose."""
_MOST = 0.9


@attrs.frozen(kw_only=True)
class NormalsFiles(Scaled):
    """Unit vectors in the camera frame, x right, y down, z forward: an RGB picture or an array of three channels.

    A picture of 8 bits is n = (v − 128) / 127 unless ``scale`` says otherwise; (0, 0, 0) there, and a short vector
    anywhere, is invalid.
    """

    kind: Literal["normals"] = field(metadata=help("kind of task"))
    flip: tuple[Literal["x", "y", "z"], ...] | None = field(
        default=None, metadata=help("axes of the file that point the other way: up, or towards the camera")
    )

    def task(self, name: str) -> Normals:
        return Normals(name=name)

    def label(self, raw: Raw) -> Tensor:
        if raw.values.ndim != 3 or raw.values.shape[2] != 3:
            raise Unfit(raw.form, "three channels", "are these files of another task (depth)?")
        vectors = channels_first(self._vectors(raw))
        lengths = vectors.norm(dim=0)
        known = lengths > 0.5
        inside = (lengths > _SHORTEST) & (lengths < _LONGEST)
        if known.any() and inside[known].float().mean() < _MOST:
            raise self._not_unit(raw, lengths[known])
        signs = torch.tensor([-1.0 if axis in (self.flip or ()) else 1.0 for axis in _AXES])
        return unit(vectors) * signs.view(3, 1, 1)

    def _vectors(self, raw: Raw) -> NDArray[Any]:
        vectors: NDArray[Any]
        if raw.values.dtype == np.uint8 and self.scale is None:
            vectors = (raw.values.astype(np.float32) - 128) / 127
        else:
            vectors = raw.values.astype(np.float32) * np.float32(self.scale or 1.0) + np.float32(self.offset)
        known = np.isfinite(vectors).all(-1, keepdims=True)
        if raw.is_whole:
            known &= raw.values.any(-1, keepdims=True)
        return np.where(known, vectors, np.float32(0))

    def _not_unit(self, raw: Raw, lengths: Tensor) -> Unfit:
        low, high = (float(q) for q in lengths.quantile(torch.tensor([0.05, 0.95])))
        finite = raw.values[np.isfinite(raw.values)]
        if not raw.is_whole and finite.size and finite.min() >= 0 and finite.max() <= 1:
            remedy = "if 0..1 stands for −1..1: scale = 2, offset = -1"
        else:
            remedy = "are these images or another task's files? if not, give scale and offset"
        return Unfit(f"vectors of lengths {low:.2f} to {high:.2f}", "unit vectors", remedy)

    def resized(self, label: Tensor, size: tuple[int, int]) -> Tensor:
        return resize_normals(label, size)

    def blank(self, size: tuple[int, int]) -> Tensor:
        return torch.zeros(3, *size)

    def doubts(self, raw: Raw, label: Tensor) -> Iterator[Unfit]:
        z = label[2][label.norm(dim=0) > 0.5]
        if not z.numel():
            yield Unfit("no valid vector in the whole label", "some", "look at scale and at the file")
        elif self.flip is None and (z > 0).float().mean() > _MOST:
            remedy = 'if z points towards the camera: flip = ["z"] (and "y" if y points up); if it is right: flip = []'
            yield Unfit("nearly all normals point away from the camera", "z below 0", remedy)
