"""What tasks of classes share: their losses, their label space.

Shape letters: B samples, C classes, H and W image size.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import attrs
import torch
from attrs import field
from attrs.validators import ge, lt
from torch import Tensor
from torch.nn import functional as F

from mtl_core.tasks import losses
from mtl_core.tasks.task import Task, class_problem, setting


def _one_per_class(task: Any, attribute: object, weights: tuple[float, ...]) -> None:
    if weights and (len(weights) != task.channels or min(weights) < 0 or max(weights) <= 0):
        raise ValueError(f"expected {task.channels} numbers from 0, one for each class, found {list(weights)}")


def _only_of_cross_entropy(task: Any, attribute: object, smoothing: float) -> None:
    if smoothing and task.objective != "cross_entropy":
        raise ValueError('belongs to loss = "cross_entropy"; the focal loss has none')


@attrs.frozen(kw_only=True)
class ClassTask(Task):
    """A class per pixel or per image: labels long, −1 where missing.

    :param classes: their names, or empty
    :param class_weights: a weight for each class; an image's loss is Σ w_y l / Σ w_y over its valid pixels, as torch's
        ``CrossEntropyLoss(weight=…)``; empty: all are 1
    :param objective: the loss, ``"cross_entropy"`` or ``"focal"`` (option ``loss``)
    :param label_smoothing: ε of the cross-entropy
    :param focal_gamma: γ of the focal loss
    """

    classes: tuple[str, ...] = ()
    class_weights: tuple[float, ...] = field(
        default=(), validator=_one_per_class, metadata=setting("a weight for each class; empty: all are 1")
    )
    objective: Literal["cross_entropy", "focal"] = field(
        default="cross_entropy", alias="loss", metadata=setting("the loss")
    )
    label_smoothing: float = field(
        default=0.0, validator=[ge(0.0), lt(1.0), _only_of_cross_entropy], metadata=setting("ε of the cross-entropy")
    )
    focal_gamma: float = field(default=2.0, validator=ge(0.0), metadata=setting("γ of the focal loss"))

    ignored: ClassVar[float] = -1
    also_invalid: ClassVar[float | None] = -7
    label_dtype: ClassVar[torch.dtype] = torch.long
    is_distribution: ClassVar[bool] = True
    higher_is_better: ClassVar[bool] = True

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        weights = self.weights(prediction)
        if weights is None:
            return super().loss(prediction, target)
        valid = self.valid(target)
        zero = torch.zeros((), device=target.device)
        # −1 is no index; these pixels are left out below
        of_pixels = weights[target.clamp(min=0)].unsqueeze(1)
        total = torch.where(valid, self.pixel_loss(prediction, target), zero).flatten(1).sum(1)
        return total / torch.where(valid, of_pixels, zero).flatten(1).sum(1).clamp(min=1e-12)

    def weights(self, like: Tensor) -> Tensor | None:
        """The class weights (C,) on a tensor's device."""
        return losses.row(self.class_weights, like.device) if self.class_weights else None

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The chosen loss of every pixel (B, 1, …), times its class's weight."""
        classes = target.clamp(min=0)
        weights = self.weights(prediction)
        if self.objective == "focal":
            return losses.focal(prediction, classes, weights, self.focal_gamma)
        return losses.cross_entropy(prediction, classes, weights, self.label_smoothing)

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy (B, 1, …) against probabilities, whatever the task's loss and class weights."""
        return F.cross_entropy(prediction, target, reduction="none").unsqueeze(1)

    def valid(self, target: Tensor) -> Tensor:
        return (target >= 0).unsqueeze(1)

    def to_label_space(self, prediction: Tensor) -> Tensor:
        return prediction.softmax(1)

    def encode(self, target: Tensor) -> Tensor:
        # scatter and not F.one_hot, which looks at the values: a host sync on a GPU
        index = target.clamp(min=0).unsqueeze(1)
        shape = (index.shape[0], self.channels, *index.shape[2:])
        return torch.zeros(shape, device=target.device).scatter_(1, index, 1.0)

    def decode(self, prediction: Tensor) -> Tensor:
        return prediction.argmax(1)

    def value_problems(self, label: Tensor) -> list[str]:
        found = self.range_problem(label)
        return [found] if found else []

    def range_problem(self, label: Tensor) -> str | None:
        return class_problem(label, self.channels)
