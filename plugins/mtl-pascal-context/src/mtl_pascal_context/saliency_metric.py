"""Saliency evaluated at many thresholds.

Shape letters: B samples, H and W image size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

_BETA_SQUARED = 0.3
_OVERLAP_THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(4, 19))
"""0.2 to 0.9, those of ASTMT's and MTI-Net's evaluation."""
_F_THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(1, 20))
"""0.05 to 0.95, those of ATRC's and InvPT's evaluation."""


class SaliencyMetrics(Metric):
    """Best mean overlap and best F over thresholds on the probability of the salient class, in per cent.

    ``miou``: the overlap of the salient region (not of the background), averaged over images and then maximised over
    thresholds; an image without salient pixels in label and prediction counts as 1. K.-K. Maninis et al., *Attentive
    Single-Tasking of Multiple Tasks*, CVPR 2019, and MTI-Net; the column "Sal. mIoU" of their successors.
    ``max_f``: F with β² = 0.3 of all pixels together, maximised over thresholds. D. Brüggemann et al., *Exploring
    Relational Context for Multi-Task Dense Prediction*, ICCV 2021 (ATRC), and InvPT.
    """

    full_state_update = False
    overlap: Tensor
    images: Tensor
    hit: Tensor
    found: Tensor
    true: Tensor

    def __init__(self) -> None:
        super().__init__()
        sizes = {"overlap": len(_OVERLAP_THRESHOLDS), "hit": len(_F_THRESHOLDS), "found": len(_F_THRESHOLDS)}
        for name, size in sizes.items():
            self.add_state(name, torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("images", "true"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Logits (B, 2, H, W), labels long (B, H, W) with −1 where unlabelled."""
        probability = prediction.softmax(1)[:, 1].nan_to_num(0.0)
        valid = target >= 0
        salient = target == 1
        counted = valid.flatten(1).any(1)
        for k, threshold in enumerate(_OVERLAP_THRESHOLDS):
            # the two evaluations differ in this too: > here, ≥ below
            shares = _overlaps((probability > threshold) & valid, salient)
            self.overlap[k] += torch.where(counted, shares, torch.zeros_like(shares)).sum()
        for k, threshold in enumerate(_F_THRESHOLDS):
            chosen = (probability >= threshold) & valid
            self.hit[k] += (chosen & salient).sum()
            self.found[k] += chosen.sum()
        self.true += salient.sum()
        self.images += counted.sum()

    def compute(self) -> dict[str, Tensor]:
        precision = self.hit / self.found.clamp(min=1)
        recall = self.hit / self.true.clamp(min=1)
        f = (1 + _BETA_SQUARED) * precision * recall / (_BETA_SQUARED * precision + recall).clamp(min=1e-12)
        known = self.images > 0
        return {
            "miou": torch.where(known, 100 * (self.overlap / self.images.clamp(min=1)).max(), torch.nan),
            "max_f": torch.where(known, 100 * f.max(), torch.nan),
        }


def _overlaps(chosen: Tensor, salient: Tensor) -> Tensor:
    """Intersection over union of each image's two regions (B,); 1 where both are empty."""
    both = (chosen & salient).flatten(1).sum(1).double()
    either = (chosen | salient).flatten(1).sum(1).double()
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(both))
