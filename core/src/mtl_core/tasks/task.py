"""A task: what a network predicts, how it is scored, and how its labels behave.

Shape letters: B samples, O channels of the task's head, L channels of its label space (O unless a kind says otherwise),
H and W image size.
A new kind of task is a subclass of :class:`Task`, here or in a plugin.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs
import torch
from attrs.validators import gt, lt
from numpy.typing import NDArray
from torch import Tensor

from mtl_core.tasks.pictures import Pixels, grey
from mtl_core.tasks.precision import constant

if TYPE_CHECKING:
    from torchmetrics import Metric


NAME = r"\w[\w.+-]*"


def setting(text: str) -> dict[str, object]:
    """Metadata of a field that an experiment may set under ``[task_options.TASK]``: the line that says what it is."""
    return {"help": text, "setting": True}


@attrs.frozen(kw_only=True)
class Task:
    """One output of the network.

    A label of a task is a tensor in which some pixels may be *invalid*; a label that the label mask withholds is
    *blank*: invalid everywhere.

    :param loss_scale: by which the task's loss is multiplied
    :param reported: the metrics that are kept, or empty for all (option ``metrics``)
    :param chosen_headline: the main metric, in place of the kind's ``headline`` (option ``headline``)
    """

    name: str = attrs.field()
    channels: int
    loss_scale: float = attrs.field(
        default=1.0, validator=[gt(0.0), lt(float("inf"))], metadata=setting("by which the loss is multiplied")
    )
    reported: tuple[str, ...] = attrs.field(
        default=(), alias="metrics", metadata=setting("metrics that are kept; empty: all of the kind's")
    )
    chosen_headline: str | None = attrs.field(
        default=None,
        alias="headline",
        metadata=setting("main metric, for Δ% and best.ckpt; none: the kind's"),
    )

    dense: ClassVar[bool] = True
    """A value per pixel (B, O, H, W); otherwise a value per image (B, O)."""
    interpolation: ClassVar[Literal["nearest", "bilinear"]] = "nearest"
    """How a label is resampled."""
    ignored: ClassVar[float] = 0.0
    """The value of an invalid pixel."""
    also_invalid: ClassVar[float | None] = None
    """Another value that :meth:`valid` takes for invalid, if there is one; the contracts try it."""
    label_dtype: ClassVar[torch.dtype] = torch.float32
    """Of a label as the data set gives it."""
    is_distribution: ClassVar[bool] = False
    """Whether label space holds probabilities that add up to 1 over the channels."""
    headline: ClassVar[str] = ""
    """The kind's main metric, which Δ% uses; of one task see :attr:`main_metric`."""
    higher_is_better: ClassVar[bool] = False
    """Whether the headline is better when higher."""
    errors: ClassVar[frozenset[str]] = frozenset()
    """The further metrics that are better when lower; those that are not named here are better when higher."""
    units: ClassVar[Mapping[str, str]] = {}
    """Metric → its unit, such as ``"%"`` or ``"°"``; a metric without one is left out."""

    @name.validator
    def _names_files(self, attribute: object, value: object) -> None:
        if not isinstance(value, str) or not re.fullmatch(NAME, value):
            raise ValueError(f"a task's name is part of file names: use letters, digits and . _ - +, found {value!r}")

    @property
    def label_channels(self) -> int:
        """Channels of label space, L. Where the head has another number, :meth:`label_loss` must be overridden and
        :meth:`decode` must take maps in label space too.
        """
        return self.channels

    def label_shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Shape of one label, without a batch dimension.

        :param size: (H, W) of the image
        """
        return (self.label_channels, *size) if self.dense else (self.label_channels,)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Mean loss over each sample's valid pixels, 0 where it has none.

        :param prediction: (B, O, H, W), as the head gives it
        :param target: a batch of labels
        :return: (B,)
        """
        return masked_mean(self.pixel_loss(prediction, target), self.valid(target))

    def scaled_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """:meth:`loss` times ``loss_scale``, which is what a training step adds up: (B,)."""
        loss = self.loss(prediction, target)
        return loss if self.loss_scale == 1 else self.loss_scale * loss

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Loss of every pixel (B, 1, H, W); finite at invalid pixels."""
        raise NotImplementedError

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Loss of every pixel (B, 1, H, W) against a target in label space, such as another network's prediction.

        :param prediction: (B, O, H, W), as a head gives it
        :param target: (B, L, H, W), in label space
        """
        raise NotImplementedError

    def label_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of every pixel (B, 1, H, W) of a network that predicts label space, such as an autoencoder of labels.

        :param output: (B, L, H, W), what such a network gives: logits where label space is a distribution
        :param target: (B, L, H, W), in label space
        """
        return self.soft_loss(output, target)

    def valid(self, target: Tensor) -> Tensor:
        """Which pixels of a label count: bool (B, 1, H, W), or (B, 1) for a task per image."""
        raise NotImplementedError

    def to_label_space(self, prediction: Tensor) -> Tensor:
        """What a head gives, as what it means: probabilities, metres, unit vectors. (B, O, H, W) → (B, L, H, W)."""
        return prediction

    def encode(self, target: Tensor) -> Tensor:
        """A label in label space: float (B, L, H, W); arbitrary but finite at invalid pixels."""
        return target

    def decode(self, prediction: Tensor) -> Tensor:
        """What a head gives, as a label of this task: classes, metres, unit vectors."""
        return self.to_label_space(prediction)

    def blank(self, target: Tensor) -> Tensor:
        """A label of the same shape that is invalid everywhere."""
        return torch.full_like(target, self.ignored)

    def blank_label(self, size: tuple[int, int]) -> Tensor:
        """One blank label for an image whose label does not exist.

        :param size: (H, W) of the image
        """
        return torch.full(self.label_shape(size), self.ignored, dtype=self.label_dtype)

    def problems(self, label: Tensor, size: tuple[int, int]) -> list[str]:
        """What is wrong with one label: a line each, with what was found, what is expected and what to do.

        :param label: as the data set gives it
        :param size: (H, W) of the image
        """
        return self.form_problems(label, size) or self.value_problems(label)

    def form_problems(self, label: object, size: tuple[int, int]) -> list[str]:
        """What is wrong with a label's type and shape."""
        if not isinstance(label, Tensor):
            return [f"found a {type(label).__name__}, expected a torch tensor; use torch.from_numpy or torch.tensor"]
        expected = self.label_shape(size)
        if tuple(label.shape) != expected:
            return [f"found shape {tuple(label.shape)}, expected {expected}; {_shape_remedy(label, expected, size)}"]
        if label.dtype != self.label_dtype:
            return [f"found {label.dtype}, expected {self.label_dtype}; convert it with .to({self.label_dtype})"]
        return []

    def value_problems(self, label: Tensor) -> list[str]:
        """What is wrong with the values of a label of the right type and shape; an invalid pixel is no fault."""
        valid = self.valid(label[None])
        encoded = self.encode(label[None])
        # only valid pixels: what an invalid one holds is the kind's own business
        if encoded[valid.expand_as(encoded)].isfinite().all():
            return []
        return [f"found valid pixels that are not finite, expected numbers; write {self.ignored:g} where unknown"]

    def range_problem(self, label: Tensor) -> str | None:
        """A value that would crash the loss, in a label of the right type; looked for in every sample that is read."""
        return None

    def example(self, samples: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Random labels (B, …) to try a plugin on, a fifth of their pixels invalid.

        :param samples: B
        :param size: (H, W)
        """
        noise = torch.randn((samples, self.label_channels, *size), generator=generator)
        gone = torch.rand((samples, 1, *size), generator=generator) < 0.2
        labels = self.labels_from(noise, generator)
        if not self.dense:
            return labels
        return torch.where(gone if labels.ndim == 4 else gone[:, 0], self.blank(labels), labels)

    def labels_from(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        """Random labels (B, …) without an invalid pixel, for :meth:`example`.

        :param noise: standard normal, (B, L, H, W)
        :param generator: for further draws
        """
        return noise if self.dense else noise.mean((-2, -1))

    def metrics(self) -> Metric:
        """A torchmetrics metric: ``update(prediction, target)``, ``compute() -> {name: scalar}``."""
        raise NotImplementedError

    def details(self, metric: Metric) -> dict[str, float]:
        """What the results file has besides the metrics and tables leave out, such as ``iou/CLASS``.

        :param metric: of this task, after the data of all ranks
        """
        return {}

    @property
    def main_metric(self) -> str:
        """The one metric of this task that Δ% and the choice of the best epoch use."""
        return self.chosen_headline or self.headline

    @property
    def main_is_higher(self) -> bool:
        """Whether :attr:`main_metric` is better when higher."""
        return self.better_when_higher(self.main_metric)

    def keeps(self, metric: str) -> bool:
        """Whether a metric is reported; the main one always is."""
        return not self.reported or metric in self.reported or metric == self.main_metric

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
        """A label (B, L, H, W) that was resampled by averaging, as a label again."""
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
    # where, not a product: what is NaN at an invalid pixel would stay NaN
    kept = torch.where(valid, values, constant(0.0, values.device)).flatten(1)
    return kept.sum(1) / valid.flatten(1).sum(1).clamp(min=1)


def _shape_remedy(label: Tensor, expected: tuple[int, ...], size: tuple[int, int]) -> str:
    """What makes a label's shape right, as far as the shape shows it."""
    found = tuple(label.shape)
    if found == expected[1:]:
        return "add the channel: label[None]"
    if found == (1, *expected):
        return "remove the first dimension: label[0]"
    if len(found) == len(expected) == 3 and found == (*expected[1:], expected[0]):
        return "put the channels first: label.permute(2, 0, 1)"
    if len(found) >= 2 and found[-2:] != size and len(found) == len(expected) and len(expected) > 1:
        return f"resize the label to the image's {size[0]} × {size[1]} pixels"
    return "give the label as its kind of task defines it"


def class_problem(label: Tensor, channels: int) -> str | None:
    """A class index that does not exist."""
    highest = int(label.max()) if label.numel() else -1
    if highest < channels:
        return None
    hint = "write −1, not 255, where a label is ignored" if highest == 255 else "correct it, or the task's channels"
    return f"found class {highest}, expected at most {channels - 1}; there are {channels} classes: {hint}"
