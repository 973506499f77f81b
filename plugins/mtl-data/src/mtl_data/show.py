"""A sheet of pictures of a data set: some images, every label, what the colours mean, and how much of it is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from PIL import Image
from torch import Tensor

from mtl_core import DataError, MultiTaskDataset, Sample, Task
from mtl_data.drawing import LINE, MARGIN, Canvas, Pixels, Range, colours, legend, limits_of
from mtl_data.sources import Source
from mtl_data.statistics import LabelStatistics, has_classes

_WIDTH = 192
"""Of a column, pixels."""
_HEADER = 3 * LINE


@attrs.define(eq=False)
class Column:
    """One task of the samples that are shown.

    :param labels: of each sample; None where it has none
    :param of_all: labels in the whole split
    """

    task: Task
    labels: list[Tensor | None]
    of_all: int
    statistics: LabelStatistics
    limits: Range

    @classmethod
    def of(cls, task: Task, labels: list[Tensor | None], of_all: int) -> Column:
        known = [label for label in labels if label is not None]
        statistics = LabelStatistics()
        for label in known:
            statistics.add(LabelStatistics.of(task, label))
        limits = (0.0, 1.0) if has_classes(task) else limits_of(task, known)
        return cls(task, labels, of_all, statistics, limits)


@attrs.define(eq=False)
class Shown:
    """Some samples of a split.

    :param names: of the samples
    :param size: of the split
    """

    split: str
    size: int
    names: list[str]
    images: list[Tensor]
    columns: list[Column]

    def report(self) -> dict[str, Any]:
        labels = {
            column.task.name: {**column.statistics.report(column.task), "labels_in_split": column.of_all}
            for column in self.columns
        }
        return {"split": self.split, "samples": self.size, "shown": self.names, "labels": labels}


def look_at(source: Source, split: str, samples: int) -> Shown:
    """Read some samples, evenly spaced in the split.

    :raises mtl_core.DataError: one of them cannot be read, or there is none
    """
    dataset = source.build(split)
    size = len(dataset)
    if size == 0:
        raise DataError(f"{source.name}: the {split} split has no sample")
    chosen = sorted({i * size // samples for i in range(samples)})
    read = [dataset[i] for i in chosen]
    names = [str(dataset.names[i]) if dataset.names is not None else str(i) for i in chosen]
    columns = []
    for k, task in enumerate(dataset.tasks):
        own = [_label_of(dataset, i, k, sample) for i, sample in zip(chosen, read, strict=True)]
        of_all = size if dataset.labelled is None else int(dataset.labelled[:, k].sum())
        columns.append(Column.of(task, own, of_all))
    return Shown(split, size, names, [sample.image for sample in read], columns)


def _label_of(dataset: MultiTaskDataset, index: int, column: int, sample: Sample) -> Tensor | None:
    if dataset.labelled is not None and not dataset.labelled[index, column]:
        return None
    return sample.targets.get(dataset.tasks[column].name)


def sheet(shown: Shown, title: str) -> Image.Image:
    """A row for each sample, a column for the image and for each task, legends below."""
    heights = [_WIDTH * image.shape[-2] // image.shape[-1] for image in shown.images]
    legends = [legend(column.task, column.statistics, column.limits, _WIDTH) for column in shown.columns]
    bottom = 2 * LINE + _HEADER + sum(height + LINE + MARGIN for height in heights)
    height = bottom + max((drawn.height for drawn in legends), default=0)
    canvas = Canvas.of((len(legends) + 1) * (_WIDTH + MARGIN) + MARGIN, height)
    canvas.write(MARGIN, MARGIN, f"{title}; grey stripes: not valid; shares are of what is shown")
    _draw_column(
        canvas, 0, ["image", f"{len(shown.names)} of {shown.size}"], [_image_pixels(i) for i in shown.images], heights
    )
    for place, column in enumerate(shown.columns, 1):
        _draw_column(canvas, place, _heading(column, shown.size), _cells(column), heights)
        canvas.image.paste(legends[place - 1], (_left(place), bottom))
    y = 2 * LINE + _HEADER
    for name, row_height in zip(shown.names, heights, strict=True):
        canvas.write(MARGIN, y + row_height, name)
        y += row_height + LINE + MARGIN
    return canvas.image


def _left(place: int) -> int:
    return MARGIN + place * (_WIDTH + MARGIN)


def _heading(column: Column, size: int) -> list[str]:
    return [
        f"{column.task.name} ({type(column.task).__name__})",
        f"{column.of_all} of {size} labelled",
        f"{100 * column.statistics.share:.1f} % of pixels valid",
    ]


def _draw_column(
    canvas: Canvas, place: int, heading: Sequence[str], cells: Sequence[Any], heights: Sequence[int]
) -> None:
    """:param cells: pixels, text for a label per image, or None where there is no label"""
    x = _left(place)
    y = 2 * LINE
    for line, text in enumerate(heading):
        canvas.write(x, y + line * LINE, text)
    y += _HEADER
    for cell, height in zip(cells, heights, strict=True):
        if isinstance(cell, np.ndarray):
            how = Image.Resampling.BOX if cell.shape[1] > _WIDTH else Image.Resampling.NEAREST
            canvas.image.paste(Image.fromarray(cell).resize((_WIDTH, height), how), (x, y))
        else:
            canvas.draw.rectangle((x, y, x + _WIDTH - 1, y + height - 1), fill="gainsboro")
            canvas.write(x + MARGIN, y + MARGIN, "no label" if cell is None else cell)
        y += height + LINE + MARGIN


def _cells(column: Column) -> list[Pixels | str | None]:
    return [None if label is None else _cell(column, label) for label in column.labels]


def _cell(column: Column, label: Tensor) -> Pixels | str:
    task = column.task
    if task.dense:
        return colours(task, label, column.limits)
    names = getattr(task, "classes", ())
    if not has_classes(task):
        return str(label.tolist())
    value = int(label)
    return names[value] if 0 <= value < len(names) else str(value)


def _image_pixels(image: Tensor) -> Pixels:
    values = (image.clamp(0, 1) * 255).round() if image.is_floating_point() else image
    return values.numpy().astype(np.uint8).transpose(1, 2, 0)


def save(picture: Image.Image, path: Path) -> None:
    """:raises mtl_core.DataError: the file cannot be written, or its ending names no format"""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be written ({error}); give --out a file that ends in .png") from error
