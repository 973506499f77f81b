"""odsF: boundaries judged with a tolerance, as the field does with SEISM.

Shape letters: B samples, H and W image size.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from mtl_pascal_context.matching import THRESHOLDS, Counts, exact_counts, fast_counts
from mtl_pascal_context.suppression import suppress
from mtl_pascal_context.thinning import Mask

Form = Literal["fast", "exact", "exact-unsuppressed"]
"""``"fast"`` bounds the number of pairs, ``"exact"`` matches pixels one to one; both suppress non-maxima first, as the
evaluation of ATRC and InvPT does. ``"exact-unsuppressed"`` does not, as that of MTI-Net."""


class BoundaryMetrics(Metric):
    """The best F of a threshold for the whole data set, in per cent.

    P. Arbeláez et al., *Contour Detection and Hierarchical Image Segmentation*, PAMI 2011 (ODS); J. Pont-Tuset and F.
    Marqués, *Supervised Evaluation of Image Segmentation and Object Proposal Techniques*, PAMI 2016 (SEISM). Images are
    judged on the processor, one by one. Pixels that the label leaves open count neither way; the tolerance is taken
    from the diagonal of what is left, so that padding does not widen it.

    :param tolerance: largest distance of a pair, as a share of the diagonal
    """

    full_state_update = False
    predicted: Tensor
    matched: Tensor
    true: Tensor
    images: Tensor

    def __init__(self, tolerance: float, form: Form) -> None:
        super().__init__()
        self.tolerance, self.form = tolerance, form
        self.add_state("predicted", torch.zeros(len(THRESHOLDS), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("matched", torch.zeros(len(THRESHOLDS), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("true", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Logits and labels in 0..1, NaN where open, both (B, 1, H, W)."""
        strengths = prediction.sigmoid().nan_to_num(0.0)[:, 0].cpu().numpy()
        for strength, label in zip(strengths, target[:, 0].cpu().numpy(), strict=True):
            inside = valid_part(label)
            if inside is not None:
                self.add(_counts(strength[inside], label[inside], self.tolerance, self.form))

    def add(self, found: Counts) -> None:
        self.predicted += torch.from_numpy(found.predicted).to(self.predicted)
        self.matched += torch.from_numpy(found.matched).to(self.matched)
        self.true += found.true
        self.images += 1

    def compute(self) -> dict[str, Tensor]:
        # 2 · precision · recall / (precision + recall), with one number of pairs for both
        f = 2 * self.matched / (self.predicted + self.true).clamp(min=1)
        return {"ods_f": torch.where(self.images > 0, 100 * f.max(), torch.nan)}


def _counts(strength: NDArray[Any], label: NDArray[Any], tolerance: float, form: Form) -> Counts:
    """One image's counts, its padding taken off."""
    open_pixels = np.isnan(label)
    true: Mask = (label > 0.5) & ~open_pixels
    radius = tolerance * math.hypot(*label.shape)
    judged = strength.astype(np.float64) if form == "exact-unsuppressed" else suppress(strength.astype(np.float64))
    judged[open_pixels] = 0
    return (fast_counts if form == "fast" else exact_counts)(judged, true, radius)


def valid_part(label: NDArray[Any]) -> tuple[slice, slice] | None:
    """The smallest window that holds every pixel of a label that counts; None where there is none."""
    known = ~np.isnan(label)
    rows, columns = np.flatnonzero(known.any(1)), np.flatnonzero(known.any(0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
