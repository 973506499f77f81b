"""A task: what a network predicts, how it is scored, and how its labels behave.

Shape letters: B samples, O channels of the task, H and W image size.
A new kind of task is a subclass of :class:`Task`, here or in a plugin.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_core.tasks.pictures import Pixels, grey

if TYPE_CHECKING:
    from torchmetrics import Metric


NAME = r"\w[\w.+-]*"


@attrs.frozen(kw_only=True)
class Task:
    """One output of the network.

    A label of a task is a tensor in which some pixels may be *invalid*; a label that the label mask withholds is
    *blank*: invalid everywhere.
    """

    name: str = attrs.field()
    channels: int

    dense: ClassVar[bool] = True
    """A value per pixel (B, O, H, W); otherwise a value per image (B, O)."""
    interpolation: ClassVar[Literal["nearest", "bilinear"]] = "nearest"
    """How a label is resampled."""
    ignored: ClassVar[float] = 0.0
    """The value of an invalid pixel."""
    headline: ClassVar[str] = ""
    """The one metric that Δ% uses."""
    higher_is_better: ClassVar[bool] = False
    """Whether the headline is better when higher."""
    errors: ClassVar[frozenset[str]] = frozenset()
    """The further metrics that are better when lower."""
    units: ClassVar[Mapping[str, str]] = {}
    """Metric → its unit, such as ``"%"`` or ``"°"``; a metric without one is left out."""

    @name.validator
    def _names_files(self, attribute: object, value: object) -> None:
        if not isinstance(value, str) or not re.fullmatch(NAME, value):
            raise ValueError(f"a task's name is part of file names: use letters, digits and . _ - +, found {value!r}")

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Mean loss over each sample's valid pixels, 0 where it has none.

        :param prediction: (B, O, H, W), as the head gives it
        :param target: a batch of labels
        :return: (B,)
        """
        return masked_mean(self.pixel_loss(prediction, target), self.valid(target))

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Loss of every pixel (B, 1, H, W); finite at invalid pixels."""
        raise NotImplementedError

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Loss of every pixel (B, 1, H, W) against a target in label space, such as another network's prediction.

        :param prediction: (B, O, H, W), as a head gives it
        :param target: (B, O, H, W), in label space
        """
        raise NotImplementedError

    def valid(self, target: Tensor) -> Tensor:
        """Which pixels of a label count: bool (B, 1, H, W), or (B, 1) for a task per image."""
        raise NotImplementedError

    def to_label_space(self, prediction: Tensor) -> Tensor:
        """What a head gives, as what it means: probabilities, metres, unit vectors. Shape unchanged."""
        return prediction

    def encode(self, target: Tensor) -> Tensor:
        """A label in label space: float (B, O, H, W); arbitrary but finite at invalid pixels."""
        return target

    def decode(self, prediction: Tensor) -> Tensor:
        """What a head gives, as a label of this task: classes, metres, unit vectors."""
        return self.to_label_space(prediction)

    def blank(self, target: Tensor) -> Tensor:
        """A label of the same shape that is invalid everywhere."""
        return torch.full_like(target, self.ignored)

    def metrics(self) -> Metric:
        """A torchmetrics metric: ``update(prediction, target)``, ``compute() -> {name: scalar}``."""
        raise NotImplementedError

    def better_when_higher(self, metric: str) -> bool:
        """The direction of one of the task's metrics."""
        return self.higher_is_better if metric == self.headline else metric not in self.errors

    def unit(self, metric: str) -> str:
        """The unit of one of the task's metrics, or an empty string."""
        return self.units.get(metric, "")

    def picture(self, label: Tensor, limits: tuple[float, float]) -> Pixels:
        """A label, or a decoded prediction, as RGB: uint8 (H, W, 3).

        :param label: (O, H, W) or (H, W), on the CPU
        :param limits: the values that are drawn darkest and lightest
        """
        return grey(label.numpy().reshape(-1, *label.shape[-2:]).mean(0), *limits)

    @property
    def file_ending(self) -> str:
        """Of the file that a prediction is exported to: ``.png`` or ``.npy``."""
        return ".npy"

    def export(self, label: Tensor) -> NDArray[Any]:
        """A decoded prediction as other programs read it.

        :param label: on the CPU, without a batch dimension
        :return: for ``.png`` uint8 or uint16 (H, W), or uint8 (H, W, 3); for ``.npy`` any array
        """
        return label.numpy()

    def mixed(self, target: Tensor) -> Tensor:
        """A label (B, O, H, W) that was resampled by averaging, as a label again."""
        return target

    def flip(self, target: Tensor) -> Tensor:
        """The label of the mirrored image, from the mirrored label (…, H, W)."""
        return target

    def rotate(self, target: Tensor, radians: float) -> Tensor:
        """The label of an image turned clockwise (as displayed), from the resampled label (…, H, W)."""
        return target

    def zoom(self, target: Tensor, scale: float | Tensor) -> Tensor:
        """The label of an image enlarged ``scale`` times, from the resampled label (…, H, W).

        :param scale: one for all, or one per sample in a shape that broadcasts, such as (B, 1, 1, 1)
        """
        return target


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over each sample's valid entries, (B, …) → (B,); 0 where there is none, whatever the others hold."""
    kept = torch.where(valid, values, torch.zeros((), dtype=values.dtype, device=values.device)).flatten(1)
    return kept.sum(1) / valid.flatten(1).sum(1).clamp(min=1)
