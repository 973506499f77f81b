"""Labels and predictions as pictures.

Shape letters: H and W image size, O channels of a task. Pixels that do not count are drawn as grey stripes.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from mtl_core.data import Batch
from mtl_core.tasks import BinaryEdges, Depth, Normals, Segmentation, Task, Tasks

Pixels = NDArray[np.uint8]
Pair = tuple[Tensor, Tensor | None]
Row = tuple[Tensor, Mapping[str, Pair]]

STOPS = np.array([[13, 8, 60], [84, 20, 120], [158, 40, 100], [220, 75, 60], [250, 150, 30], [250, 245, 150]], float)
"""Dark to light: near to far, low to high."""
TITLE = 16
GAP = 4


def palette(classes: int) -> Pixels:
    """A colour per class, (C, 3): hues a golden ratio apart, in two strengths."""
    rows = [
        colorsys.hsv_to_rgb((0.08 + 0.618034 * c) % 1, 0.45 + 0.35 * (c % 2), 0.95 - 0.2 * (c % 3))
        for c in range(classes)
    ]
    return np.asarray(np.array(rows) * 255, np.uint8)


def graded(values: NDArray[Any], low: float, high: float) -> Pixels:
    """Values (H, W) on a dark-to-light scale from ``low`` to ``high``."""
    share = np.clip((np.nan_to_num(values) - low) / max(high - low, 1e-9), 0, 1) * (len(STOPS) - 1)
    channels = [np.interp(share, np.arange(len(STOPS)), STOPS[:, c]) for c in range(3)]
    return np.stack(channels, -1).astype(np.uint8)


def grey(values: NDArray[Any], low: float, high: float) -> Pixels:
    """Values (H, W) from black to white."""
    share = np.clip((np.nan_to_num(values) - low) / max(high - low, 1e-9), 0, 1)
    return np.repeat((share * 255).astype(np.uint8)[..., None], 3, -1)


def striped(pixels: Pixels, valid: NDArray[Any]) -> Pixels:
    """Grey stripes where a label does not count."""
    y, x = np.indices(valid.shape)
    stripes = np.where((x + y) // 2 % 2 == 0, 70, 100).astype(np.uint8)
    return np.where(valid[..., None], pixels, stripes[..., None])


def value_range(maps: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Common range of several maps, without the outer two per cent."""
    kept = np.concatenate([m[np.isfinite(m)].ravel() for m in maps])
    return (float(np.percentile(kept, 2)), float(np.percentile(kept, 98))) if kept.size else (0.0, 1.0)


def colour(task: Task, label: Tensor, limits: tuple[float, float] = (0.0, 1.0)) -> Pixels:
    """One label, or one decoded prediction, as RGB (H, W, 3)."""
    array = label.numpy()
    if isinstance(task, Segmentation):
        picked: Pixels = palette(task.channels)[np.clip(array, 0, task.channels - 1)]
        return picked
    if isinstance(task, Normals):
        return np.asarray(((np.nan_to_num(array).transpose(1, 2, 0) + 1) * 127.5).clip(0, 255), np.uint8)
    if isinstance(task, BinaryEdges):  # edges are rare: a range taken from the pixels would be empty
        return grey(array.mean(0), 0, 1)
    return (graded if isinstance(task, Depth) else grey)(array.mean(0), *limits)


def drawn_pair(task: Task, prediction: Tensor, label: Tensor | None) -> list[Pixels]:
    """Prediction and label on one scale."""
    if label is None:
        limits = value_range([prediction.float().numpy()])
        return [colour(task, prediction, limits)]
    valid = task.valid(label[None])[0, 0].numpy()
    both = [x.float().mean(0).numpy() if x.ndim == 3 else x.float().numpy() for x in (prediction, label)]
    limits = value_range([both[1][valid]] if valid.any() else both[:1])
    return [colour(task, prediction, limits), striped(colour(task, label, limits), valid)]


def image_pixels(image: Tensor) -> Pixels:
    values = image if not image.is_floating_point() else (image.clamp(0, 1) * 255).round()
    return values.numpy().astype(np.uint8).transpose(1, 2, 0)


def sheet(rows: Sequence[Row], tasks: Tasks) -> Image.Image:
    """Images, predictions and labels side by side, a row per image; tasks per image are left out.

    :param rows: (image (3, H, W), task → (decoded prediction, label or None))
    """
    shown = [task for task in tasks if task.dense]
    panels = [[image_pixels(image), *cells(shown, pairs)] for image, pairs in rows]
    labelled = any(label is not None for _, pairs in rows for _, label in pairs.values())
    titles = ["image"] + [t for task in shown for t in ([task.name, "label"] if labelled else [task.name])]
    height, width = panels[0][0].shape[:2]
    zoom = max(1, round(144 / width))
    return pasted(panels, titles, (height * zoom, width * zoom))


def pairs(tasks: Tasks, batch: Batch, predictions: Mapping[str, Tensor]) -> list[Row]:
    """Rows of :func:`sheet` from a batch and what the heads gave for it."""
    decoded = {task.name: task.decode(predictions[task.name].float()).cpu() for task in tasks}
    return [
        (image, {task.name: (decoded[task.name][i], batch.targets[task.name][i]) for task in tasks})
        for i, image in enumerate(batch.images)
    ]


def drawings(batch: Batch, tasks: Tasks, drawn: Mapping[str, Mapping[str, Tensor]]) -> Image.Image:
    """What a plugin draws: for each task the label, then a column for each title.

    :param drawn: title → task → maps (B, O_t, H, W), as heads give them
    """
    decoded = {t: {k: tasks[k].decode(v.float()).cpu() for k, v in maps.items()} for t, maps in drawn.items()}
    shown = [task for task in tasks if task.dense and any(task.name in maps for maps in decoded.values())]
    panels = [
        [image_pixels(image), *(p for task in shown for p in columns_of(task, batch.targets[task.name][i], decoded, i))]
        for i, image in enumerate(batch.images)
    ]
    titles = [x for task in shown for x in (f"{task.name} label", *(t for t in decoded if task.name in decoded[t]))]
    height, width = panels[0][0].shape[:2]
    zoom = max(1, round(144 / width))
    return pasted(panels, ["image", *titles], (height * zoom, width * zoom))


def columns_of(task: Task, label: Tensor, decoded: Mapping[str, Mapping[str, Tensor]], i: int) -> list[Pixels]:
    maps = [found[task.name][i] for found in decoded.values() if task.name in found]
    return [drawn_pair(task, maps[0], label)[1], *(drawn_pair(task, one, label)[0] for one in maps)]


def cells(shown: Sequence[Task], pairs: Mapping[str, Pair]) -> list[Pixels]:
    return [panel for task in shown for panel in drawn_pair(task, *pairs[task.name])]


def pasted(panels: Sequence[Sequence[Pixels]], titles: Sequence[str], size: tuple[int, int]) -> Image.Image:
    height, width = size
    canvas = Image.new("RGB", (len(titles) * (width + GAP) - GAP, TITLE + len(panels) * (height + GAP) - GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for x, title in enumerate(titles):
        draw.text((x * (width + GAP) + 2, 2), title, fill="black")
        for y, row in enumerate(panels):
            picture = Image.fromarray(row[x]).resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(picture, (x * (width + GAP), TITLE + y * (height + GAP)))
    return canvas
