"""odsF: boundaries evaluated with a tolerance, as the field does with SEISM.

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

from mtl_pascal_context.matching import FEW_THRESHOLDS, THRESHOLDS, Counts, dilated_counts, matched_counts
from mtl_pascal_context.suppression import suppress
from mtl_pascal_context.thinning import Mask

Form = Literal["fast", "dilated", "exact"]
"""``"exact"`` matches pixels one to one at 99 thresholds, ``"fast"`` at 19 of them; ``"dilated"`` estimates the number
of pairs from above."""


class BoundaryMetrics(Metric):
    """The best F of a threshold for the whole data set, in per cent.

    P. Arbeláez et al., *Contour Detection and Hierarchical Image Segmentation*, PAMI 2011 (ODS); J. Pont-Tuset and F.
    Marqués, *Supervised Evaluation of Image Segmentation and Object Proposal Techniques*, PAMI 2016 (SEISM). Images are
    evaluated on the processor, one by one. Pixels that the label leaves open count neither way; the tolerance is taken
    from the diagonal of what is left, so that padding does not widen it.

    :param tolerance: largest distance of a pair, as a share of the diagonal
    :param suppression: of non-maxima first, as the evaluation of ATRC and InvPT has it; that of MTI-Net does without
    """

    full_state_update = False
    predicted: Tensor
    matched: Tensor
    true: Tensor
    images: Tensor

    def __init__(self, tolerance: float, form: Form, suppression: bool = True) -> None:
        super().__init__()
        self.tolerance = tolerance
        self.form = form
        self.suppression = suppression
        size = len(FEW_THRESHOLDS if form == "fast" else THRESHOLDS)
        self.add_state("predicted", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("matched", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("true", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Logits and labels in 0..1, NaN where open, both (B, 1, H, W)."""
        strengths = prediction.sigmoid().nan_to_num(0.0)[:, 0].double().cpu().numpy()
        for strength, label in zip(strengths, target[:, 0].cpu().numpy(), strict=True):
            inside = _valid_part(label)
            if inside is not None:
                self.add(self._counts_of(strength[inside], label[inside]))

    def _counts_of(self, strength: NDArray[Any], label: NDArray[Any]) -> Counts:
        """One image's counts, its padding taken off."""
        open_pixels = np.isnan(label)
        true: Mask = (label > 0.5) & ~open_pixels
        radius = self.tolerance * math.hypot(*label.shape)
        predicted = np.where(open_pixels, 0, suppress(strength) if self.suppression else strength)
        if self.form == "dilated":
            return dilated_counts(predicted, true, radius)
        return matched_counts(predicted, true, radius, FEW_THRESHOLDS if self.form == "fast" else THRESHOLDS)

    def add(self, found: Counts) -> None:
        self.predicted += torch.from_numpy(found.predicted).to(self.predicted)
        self.matched += torch.from_numpy(found.matched).to(self.matched)
        self.true += found.true
        self.images += 1

    def compute(self) -> dict[str, Tensor]:
        # 2 · precision · recall / (precision + recall), with one number of pairs for both
        f = 2 * self.matched / (self.predicted + self.true).clamp(min=1)
        return {"ods_f": torch.where(self.images > 0, 100 * f.max(), torch.nan)}


def _valid_part(label: NDArray[Any]) -> tuple[slice, slice] | None:
    """The smallest window that holds every pixel of a label that counts; None where there is none."""
    known = ~np.isnan(label)
    rows = np.flatnonzero(known.any(1))
    columns = np.flatnonzero(known.any(0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
