"""Labels as pictures, with legends: :func:`colours` and :func:`legend` decide what is drawn how, and nothing else does.

Shape letters: C channels, H and W image size. Pixels that do not count are drawn as grey stripes.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from mtl_core import Depth, Normals, Task
from mtl_data.statistics import LabelStatistics, class_names, has_classes, unit

Pixels = NDArray[np.uint8]
Range = tuple[float, float]

_NEAR_TO_FAR = np.array([[13, 8, 60], [84, 20, 120], [158, 40, 100], [220, 75, 60], [250, 150, 30], [250, 245, 150]])
_BLACK_TO_WHITE = np.array([[0, 0, 0], [255, 255, 255]])
LINE = 13
"""Height of a line of text, pixels."""
MARGIN = 6
_MOST_CLASSES = 40


def _palette(classes: int) -> Pixels:
    """A colour for each class (classes, 3): hues a golden ratio apart."""
    rows = []
    for k in range(classes):
        hue = (0.08 + 0.618034 * k) % 1
        strength = 0.45 + 0.35 * (k % 2)
        light = 0.95 - 0.2 * (k % 3)
        rows.append(colorsys.hsv_to_rgb(hue, strength, light))
    table: Pixels = (np.array(rows).reshape(-1, 3) * 255).astype(np.uint8)
    return table


def colours(task: Task, label: Tensor, limits: Range) -> Pixels:
    """A label as RGB (H, W, 3).

    :param limits: values that become the first and the last colour of a scale
    """
    values = label.numpy()
    if has_classes(task):
        drawn = _palette(task.channels)[np.clip(values, 0, task.channels - 1)]
    elif isinstance(task, Normals):
        drawn = _normals_as_colours(values)
    else:
        drawn = _graded(values.mean(0), limits, _scale_of(task))
    return _striped(drawn, task.valid(label[None])[0, 0].numpy())


def _scale_of(task: Task) -> NDArray[Any]:
    return _NEAR_TO_FAR if isinstance(task, Depth) else _BLACK_TO_WHITE


def _normals_as_colours(vectors: NDArray[Any]) -> Pixels:
    """Red to the right, green down, blue away from the camera: (3, H, W) → (H, W, 3)."""
    coded: Pixels = ((np.nan_to_num(vectors).transpose(1, 2, 0) + 1) * 127.5).clip(0, 255).astype(np.uint8)
    return coded


def _graded(values: NDArray[Any], limits: Range, stops: NDArray[Any]) -> Pixels:
    """Values (H, W) on a scale of colours."""
    low, high = limits
    share = np.clip((np.nan_to_num(values, posinf=high, neginf=low) - low) / max(high - low, 1e-9), 0, 1)
    places = np.arange(len(stops))
    channels = [np.interp(share * places[-1], places, stops[:, c]) for c in range(3)]
    return np.stack(channels, -1).astype(np.uint8)


def _striped(pixels: Pixels, valid: NDArray[Any]) -> Pixels:
    """Grey stripes where a label does not count."""
    y, x = np.indices(valid.shape)
    stripes = np.where((x + y) // 3 % 2 == 0, 70, 100).astype(np.uint8)
    return np.where(valid[..., None], pixels, stripes[..., None])


def limits_of(task: Task, labels: Sequence[Tensor]) -> Range:
    """The range of some labels' valid values, without the outer two per cent of each."""
    ends = []
    for label in labels:
        known = label.mean(0)[task.valid(label[None])[0, 0]].numpy() if label.ndim == 3 else np.zeros(0)
        if known.size:
            ends.append(np.percentile(known, (2, 98)))
    return (float(min(low for low, _ in ends)), float(max(high for _, high in ends))) if ends else (0.0, 1.0)


def legend(task: Task, statistics: LabelStatistics, limits: Range, width: int) -> Image.Image:
    """What the colours of a task's column mean."""
    if has_classes(task):
        return _classes_legend(task, statistics, width)
    if isinstance(task, Normals):
        return _normals_legend(width)
    bar = _graded(np.linspace(*limits, width - 2 * MARGIN)[None].repeat(LINE, 0), limits, _scale_of(task))
    low, high = (f"{value:.3g} {unit(task)}".strip() for value in limits)
    canvas = Canvas.of(width, 3 * LINE)
    canvas.paste(bar, MARGIN, 0)
    canvas.write(MARGIN, LINE, low)
    canvas.write(width - MARGIN, LINE, high, right=True)
    return canvas.image


def _classes_legend(task: Task, statistics: LabelStatistics, width: int) -> Image.Image:
    """A line for each class: its share of the valid pixels, and in how many labels; of many, the most frequent ones."""
    pixels = statistics.class_pixels or [0] * task.channels
    labels = statistics.class_labels or [0] * task.channels
    shown = sorted(range(task.channels), key=lambda k: (-pixels[k], k))[:_MOST_CLASSES]
    names = class_names(task)
    colour = _palette(task.channels)
    canvas = Canvas.of(width, (len(shown) + 2) * LINE)
    for line, k in enumerate(sorted(shown)):
        canvas.paste(np.full((LINE - 3, LINE, 3), colour[k], np.uint8), MARGIN, line * LINE + 1)
        canvas.write(MARGIN + LINE + 4, line * LINE, names[k])
        share = f"{100 * pixels[k] / max(statistics.valid, 1):.1f} % in {labels[k]}"
        canvas.write(width - MARGIN, line * LINE, share, right=True)
    if len(shown) < task.channels:
        canvas.write(MARGIN, len(shown) * LINE, f"and {task.channels - len(shown)} rarer classes")
    return canvas.image


def _normals_legend(width: int) -> Image.Image:
    """The half of a sphere that faces the camera."""
    size = min(width - 2 * MARGIN, 6 * LINE)
    y, x = np.meshgrid(*[np.linspace(-1.05, 1.05, size)] * 2, indexing="ij")
    inside = x * x + y * y <= 1
    z = -np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    drawn = np.where(inside[..., None], _normals_as_colours(np.stack((x, y, z))), 255).astype(np.uint8)
    canvas = Canvas.of(width, size + 2 * LINE)
    canvas.paste(drawn, (width - size) // 2, 0)
    canvas.write(MARGIN, size, "x right, y down, z forward")
    return canvas.image


@attrs.frozen
class Canvas:
    """A white picture to write and paste on."""

    image: Image.Image
    draw: ImageDraw.ImageDraw

    @classmethod
    def of(cls, width: int, height: int) -> Canvas:
        image = Image.new("RGB", (width, height), "white")
        return cls(image, ImageDraw.Draw(image))

    def write(self, x: int, y: int, text: str, right: bool = False, colour: str = "black") -> None:
        """Text, cut where the picture ends; ``right`` puts its end at ``x``."""
        plain = text.encode("latin-1", "replace").decode("latin-1")  # what Pillow's own font has
        self.draw.text((x - (self.draw.textlength(plain) if right else 0), y), plain, fill=colour)

    def paste(self, pixels: Pixels, x: int, y: int) -> None:
        self.image.paste(Image.fromarray(pixels), (x, y))
