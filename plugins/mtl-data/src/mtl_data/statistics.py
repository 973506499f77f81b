"""What labels hold, counted: valid pixels, ranges, classes.

Shape letters: C channels, H and W image size.
"""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from mtl_core import Classification, Depth, Normals, Segmentation, Task


def has_classes(task: Task) -> bool:
    return isinstance(task, Segmentation | Classification)


def unit(task: Task) -> str:
    """Of a label's values; "" where they have none."""
    return "m" if isinstance(task, Depth) and not task.disparity else ""


def class_names(task: Task) -> list[str]:
    names = getattr(task, "classes", ())
    return [names[k] if k < len(names) else f"class {k}" for k in range(task.channels)]


@attrs.define
class LabelStatistics:
    """Of some labels of one task; two of them add up.

    ``labels`` were looked at, ``empty`` of them had no valid pixel. ``low``, ``high`` and ``total`` are a channel's
    smallest and largest value and its sum; of classes, ``class_pixels`` and ``class_labels`` count the pixels of each
    and the labels that have any.
    """

    labels: int = 0
    empty: int = 0
    pixels: int = 0
    valid: int = 0
    low: list[float] = attrs.field(factory=list)
    high: list[float] = attrs.field(factory=list)
    total: list[float] = attrs.field(factory=list)
    class_pixels: list[int] = attrs.field(factory=list)
    class_labels: list[int] = attrs.field(factory=list)

    @classmethod
    def of(cls, task: Task, label: Tensor) -> LabelStatistics:
        """:param label: as the task defines it, without a batch axis"""
        valid = task.valid(label[None])[0, 0]
        count = int(valid.sum())
        made = cls(labels=1, empty=int(count == 0), pixels=valid.numel(), valid=count)
        if has_classes(task):
            counts = torch.bincount(label[valid].flatten(), minlength=task.channels)
            made.class_pixels = counts.tolist()
            made.class_labels = (counts > 0).int().tolist()
        elif count:
            values = label.reshape(label.shape[0], -1)[:, valid.flatten()].double()
            made.low = values.amin(1).tolist()
            made.high = values.amax(1).tolist()
            made.total = values.sum(1).tolist()
        return made

    def add(self, other: LabelStatistics) -> None:
        self.labels += other.labels
        self.empty += other.empty
        self.pixels += other.pixels
        self.valid += other.valid
        self.low = _pairwise(min, self.low, other.low)
        self.high = _pairwise(max, self.high, other.high)
        self.total = _pairwise(_plus, self.total, other.total)
        self.class_pixels = _pairwise(_plus, self.class_pixels, other.class_pixels)
        self.class_labels = _pairwise(_plus, self.class_labels, other.class_labels)

    @property
    def share(self) -> float:
        """Of pixels that are valid."""
        return self.valid / self.pixels if self.pixels else 0.0

    def report(self, task: Task) -> dict[str, Any]:
        """For people and programs: shares, means, names of classes."""
        row: dict[str, Any] = {
            "kind": type(task).__name__, "unit": unit(task), "labels": self.labels, "empty": self.empty,
            "valid": self.share,
        }  # fmt: skip
        if has_classes(task):
            none = [0] * task.channels
            rows = zip(class_names(task), self.class_pixels or none, self.class_labels or none, strict=True)
            row["classes"] = {name: {"pixels": pixels, "labels": labels} for name, pixels, labels in rows}
        else:
            row |= {"low": self.low, "high": self.high, "mean": [x / max(self.valid, 1) for x in self.total]}
        return row


def _plus(one: Any, two: Any) -> Any:
    return one + two


def _pairwise(join: Any, one: list[Any], two: list[Any]) -> list[Any]:
    """Entry by entry; an empty list is one of nothing yet."""
    if not one or not two:
        return list(one or two)
    return [join(a, b) for a, b in zip(one, two, strict=True)]


def what_is_wrong(task: Task, label: Tensor, size: tuple[int, int]) -> str | None:
    """Where a label is not as its task defines it; None where it is.

    :param size: (H, W) of the image
    """
    expected = _expected_form(task, size)
    if expected and (tuple(label.shape), label.dtype) != expected:
        shape, dtype = expected
        return f"{label.dtype} of shape {tuple(label.shape)}, expected {dtype} of shape {shape}"
    if has_classes(task):
        if label.numel() and int(label.max()) >= task.channels:
            return f"class {int(label.max())}, expected −1 to {task.channels - 1}"
        return None
    valid = task.valid(label[None])[0]
    if not label[valid.expand_as(label)].isfinite().all():
        return "values that are not finite in valid pixels"
    if isinstance(task, Normals) and valid.any():
        length = label.square().sum(0).sqrt()[valid[0]]
        if (length - 1).abs().max() > 0.02:
            return f"normals of length {length.min():.3g} to {length.max():.3g}, expected 1"
    return None


def _expected_form(task: Task, size: tuple[int, int]) -> tuple[tuple[int, ...], torch.dtype] | None:
    """Shape and type of a label; None for a task per image that core does not know."""
    if isinstance(task, Classification):
        return (), torch.long
    if isinstance(task, Segmentation):
        return size, torch.long
    return ((task.channels, *size), torch.float32) if task.dense else None
