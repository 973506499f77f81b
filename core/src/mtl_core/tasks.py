"""Tasks: what a network predicts, how it is judged, and how its labels behave.

Shape letters: B samples, O channels of the task, H and W image size.
A new kind of task is a subclass of :class:`Task`, here or in a plugin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_core.metrics import AngleError, ConfusionMetrics, EdgeMetrics, RegressionMetrics, Top1

if TYPE_CHECKING:
    from torchmetrics import Metric


@attrs.frozen(kw_only=True)
class Task:
    """One output of the network.

    A label of a task is a tensor in which some pixels may be *invalid*; a label that the label mask withholds is
    *blank*: invalid everywhere.
    """

    name: str
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


@attrs.frozen(kw_only=True)
class Segmentation(Task):
    """Semantic segmentation: labels long (B, H, W), −1 where unlabelled; cross-entropy."""

    classes: tuple[str, ...] = ()
    ignored: ClassVar[float] = -1
    headline: ClassVar[str] = "miou"
    higher_is_better: ClassVar[bool] = True

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target.clamp(min=0), reduction="none").unsqueeze(1)

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
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

    def metrics(self) -> Metric:
        return ConfusionMetrics(self.channels)


@attrs.frozen(kw_only=True)
class Regression(Task):
    """A value per pixel: labels float (B, O, H, W), NaN where invalid; L1."""

    ignored: ClassVar[float] = float("nan")
    headline: ClassVar[str] = "abs_err"

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.soft_loss(prediction, self.encode(target))

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs().mean(1, keepdim=True)

    def valid(self, target: Tensor) -> Tensor:
        return target.isfinite().all(1, keepdim=True)

    def encode(self, target: Tensor) -> Tensor:
        return torch.where(self.valid(target), target, torch.zeros_like(target))

    def metrics(self) -> Metric:
        return RegressionMetrics(self.valid)


@attrs.frozen(kw_only=True)
class Depth(Regression):
    """Metric depth in metres: labels float (B, 1, H, W), 0 where missing; L1. ``disparity`` is enlarged by a zoom."""

    channels: int = 1
    disparity: bool = False
    ignored: ClassVar[float] = 0.0

    def valid(self, target: Tensor) -> Tensor:
        return target.isfinite() & (target > 0)

    def zoom(self, target: Tensor, scale: float | Tensor) -> Tensor:
        return target * scale if self.disparity else target / scale


@attrs.frozen(kw_only=True)
class Normals(Task):
    """Surface normals: labels float (B, 3, H, W), 0 where invalid; 1 − cos.

    Camera frame: x right, y down, z forward.
    """

    channels: int = 3
    interpolation: ClassVar[Literal["nearest", "bilinear"]] = "bilinear"
    headline: ClassVar[str] = "mean_angle"

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.soft_loss(prediction, self.encode(target))

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return 1 - F.cosine_similarity(prediction, target, dim=1).unsqueeze(1)

    def valid(self, target: Tensor) -> Tensor:
        square: Tensor = target.square().sum(1, keepdim=True)
        return square.isfinite() & (square > 0.25)

    def encode(self, target: Tensor) -> Tensor:
        return torch.where(self.valid(target), target, torch.zeros_like(target))

    def to_label_space(self, prediction: Tensor) -> Tensor:
        return F.normalize(prediction, dim=1)

    def metrics(self) -> Metric:
        return AngleError(self.valid)

    def flip(self, target: Tensor) -> Tensor:
        x, y, z = target.unbind(-3)
        return torch.stack((-x, y, z), -3)

    def rotate(self, target: Tensor, radians: float) -> Tensor:
        c, s = torch.cos(torch.tensor(radians)), torch.sin(torch.tensor(radians))
        x, y, z = target.unbind(-3)
        return torch.stack((c * x - s * y, s * x + c * y, z), -3)


@attrs.frozen(kw_only=True)
class BinaryEdges(Task):
    """Edges or other maps in 0..1: labels float (B, 1, H, W), NaN where invalid; weighted binary cross-entropy.

    :param positive_weight: share of the loss that edge pixels carry, 0.95 as in the PASCAL-Context line of work
    """

    channels: int = 1
    positive_weight: float = 0.95
    ignored: ClassVar[float] = float("nan")
    headline: ClassVar[str] = "ods_f"
    higher_is_better: ClassVar[bool] = True

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.soft_loss(prediction, self.encode(target))

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        weight = self.positive_weight * target + (1 - self.positive_weight) * (1 - target)
        return weight * F.binary_cross_entropy_with_logits(prediction, target, reduction="none")

    def valid(self, target: Tensor) -> Tensor:
        return target.isfinite()

    def to_label_space(self, prediction: Tensor) -> Tensor:
        return prediction.sigmoid()

    def encode(self, target: Tensor) -> Tensor:
        return torch.where(self.valid(target), target, torch.zeros_like(target))

    def metrics(self) -> Metric:
        return EdgeMetrics(self.valid)


@attrs.frozen(kw_only=True)
class Classification(Task):
    """A class per image: labels long (B,), −1 where missing; cross-entropy."""

    classes: tuple[str, ...] = ()
    dense: ClassVar[bool] = False
    ignored: ClassVar[float] = -1
    headline: ClassVar[str] = "top1"
    higher_is_better: ClassVar[bool] = True

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target.clamp(min=0), reduction="none").unsqueeze(1)

    def soft_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target, reduction="none").unsqueeze(1)

    def valid(self, target: Tensor) -> Tensor:
        return (target >= 0).unsqueeze(1)

    def to_label_space(self, prediction: Tensor) -> Tensor:
        return prediction.softmax(1)

    def encode(self, target: Tensor) -> Tensor:
        index = target.clamp(min=0).unsqueeze(1)
        return torch.zeros((len(target), self.channels), device=target.device).scatter_(1, index, 1.0)

    def decode(self, prediction: Tensor) -> Tensor:
        return prediction.argmax(1)

    def metrics(self) -> Metric:
        return Top1()


class Tasks(Sequence[Task]):
    """The K tasks of a run, in a fixed order; by position or by name."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = {task.name: task for task in tasks}
        if len(self._tasks) != len(tasks):
            raise ValueError(f"two tasks have one name: {[t.name for t in tasks]}")

    @overload
    def __getitem__(self, key: int | str) -> Task: ...
    @overload
    def __getitem__(self, key: slice) -> Tasks: ...
    def __getitem__(self, key: int | str | slice) -> Task | Tasks:
        if isinstance(key, str):
            return self._tasks[key]
        chosen = list(self._tasks.values())[key]
        return Tasks(chosen) if isinstance(chosen, list) else chosen

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def __repr__(self) -> str:
        return f"Tasks({', '.join(self.names)})"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tasks)

    def position(self, name: str) -> int:
        """Column of a task in every (…, K) tensor."""
        return self.names.index(name)

    @property
    def dense(self) -> Tasks:
        return Tasks([task for task in self if task.dense])

    def select(self, names: Sequence[str]) -> Tasks:
        return Tasks([self[name] for name in names])


def to_plain(tasks: Tasks) -> list[dict[str, Any]]:
    """Tasks as plain types, for checkpoints."""
    return [{"kind": f"{type(t).__module__}:{type(t).__name__}", **attrs.asdict(t)} for t in tasks]


def from_plain(rows: Sequence[dict[str, Any]]) -> Tasks:
    """Tasks from :func:`to_plain`; a kind that a plugin defines is imported from there."""
    from importlib import import_module

    made = []
    for row in rows:
        module, _, kind = row["kind"].partition(":")
        options = {key: tuple(v) if isinstance(v, list) else v for key, v in row.items() if key != "kind"}
        made.append(getattr(import_module(module), kind)(**options))
    return Tasks(made)
