"""The five tasks, with the losses and metrics of this line of work.

A task multiplies its loss by its ``weight``: what combines losses, and every gradient, sees the weighted loss. Losses
of regularizers (``pixel_loss``, ``soft_loss``) are not weighted.

Shape letters: B samples, O channels of the task, H and W image size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_core import BinaryEdges, Normals, Segmentation
from mtl_pascal_context.edge_metric import BoundaryMetrics, Form
from mtl_pascal_context.saliency_metric import SaliencyMetrics

if TYPE_CHECKING:
    from torchmetrics import Metric

_Criterion = Literal["l1", "cosine"]


@attrs.frozen(kw_only=True)
class WeightedSegmentation(Segmentation):
    """Classes: cross-entropy.

    :param weight: factor of the loss
    """

    weight: float = 1.0

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.weight * super().loss(prediction, target)


@attrs.frozen(kw_only=True)
class Saliency(Segmentation):
    """Background and salient region: cross-entropy balanced by the share of each class in the batch.

    Xie and Tu, *Holistically-Nested Edge Detection*, ICCV 2015, as ASTMT, MTI-Net and ATRC use it: a salient pixel has
    the share of the background as its weight, a pixel of the background that of the salient region. The batch is a
    device's.

    :param weight: factor of the loss
    """

    channels: int = 2
    classes: tuple[str, ...] = ("background", "salient")
    weight: float = 1.0

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.weight * super().loss(prediction, target)

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        salient = target == 1
        valid = target >= 0
        share = salient.sum() / valid.sum().clamp(min=1)
        balance = torch.where(salient, 1 - share, share).unsqueeze(1)
        return balance * super().pixel_loss(prediction, target)

    def metrics(self) -> Metric:
        return SaliencyMetrics()


@attrs.frozen(kw_only=True)
class WeightedNormals(Normals):
    """Surface normals: mean absolute difference of the components of unit vectors, or 1 − cos.

    :param criterion: ``"l1"`` as ASTMT and MTI-Net, ``"cosine"`` as core's
    :param weight: factor of the loss
    """

    criterion: _Criterion = "l1"
    weight: float = 1.0

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.weight * super().loss(prediction, target)

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.criterion == "cosine":
            return super().soft_loss(prediction, target)
        return (F.normalize(prediction.float(), dim=1) - target).abs().mean(1, keepdim=True)


@attrs.frozen(kw_only=True)
class Boundaries(BinaryEdges):
    """Semantic boundaries: weighted binary cross-entropy, evaluated by odsF.

    :param weight: factor of the loss
    :param tolerance: largest distance of a pair, as a share of the image's diagonal
    :param form: how boundaries are matched
    :param suppression: of non-maxima before that
    """

    weight: float = 1.0
    tolerance: float = 0.0075
    form: Form = "fast"
    suppression: bool = True

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.weight * super().loss(prediction, target)

    def metrics(self) -> Metric:
        return BoundaryMetrics(self.tolerance, self.form, self.suppression)
