"""Labels and predictions as pictures.

Shape letters: H and W image size, O channels of a task. Pixels that do not count are drawn as grey stripes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from mtl_core import Batch, Pixels, Task, Tasks

Pair = tuple[Tensor, Tensor | None]

Row = tuple[Tensor, Mapping[str, Pair]]


TITLE = 16

GAP = 4


def striped(pixels: Pixels, valid: NDArray[Any]) -> Pixels:
    """Grey stripes where a label does not count."""
    y, x = np.indices(valid.shape)
    stripes = np.where((x + y) // 2 % 2 == 0, 70, 100).astype(np.uint8)
    return np.where(valid[..., None], pixels, stripes[..., None])


def value_range(maps: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Common range of several maps, without the outer two per cent."""
    kept = np.concatenate([m[np.isfinite(m)].ravel() for m in maps])
    return (float(np.percentile(kept, 2)), float(np.percentile(kept, 98))) if kept.size else (0.0, 1.0)


def drawn_pair(task: Task, prediction: Tensor, label: Tensor | None) -> list[Pixels]:
    """Prediction and label on one scale."""
    if label is None:
        limits = value_range([prediction.float().numpy()])
        return [task.picture(prediction, limits)]
    valid = task.valid(label[None])[0, 0].numpy()
    both = [x.float().mean(0).numpy() if x.ndim == 3 else x.float().numpy() for x in (prediction, label)]
    limits = value_range([both[1][valid]] if valid.any() else both[:1])
    return [task.picture(prediction, limits), striped(task.picture(label, limits), valid)]


def image_pixels(image: Tensor) -> Pixels:
    values = image if not image.is_floating_point() else (image.clamp(0, 1) * 255).round()
    return values.numpy().astype(np.uint8).transpose(1, 2, 0)


def sheet(rows: Sequence[Row], tasks: Tasks) -> Image.Image:
    """Images, predictions and labels side by side, a row per image; tasks per image are left out.

    :param rows: (image (3, H, W), task → (decoded prediction, label or None))
    """
    shown = [task for task in tasks if task.dense]
    panels = [[image_pixels(image), *cells(shown, pairs)] for image, pairs in rows]
    labelled = any(has_label(pairs) for _, pairs in rows)
    titles = ["image"]
    for task in shown:
        titles += [task.name, "label"] if labelled else [task.name]
    height, width = panels[0][0].shape[:2]
    zoom = max(1, round(144 / width))
    return pasted(panels, titles, (height * zoom, width * zoom))


def has_label(pairs: Mapping[str, Pair]) -> bool:
    return any(label is not None for _, label in pairs.values())


def pairs(tasks: Tasks, batch: Batch, predictions: Mapping[str, Tensor]) -> list[Row]:
    """Rows of :func:`sheet` from a batch and what the heads gave for it."""
    decoded = {task.name: task.decode(predictions[task.name].float()).cpu() for task in tasks}
    rows: list[Row] = []
    for i, image in enumerate(batch.images):
        rows.append((image, {name: (maps[i], batch.targets[name][i]) for name, maps in decoded.items()}))
    return rows


def drawings(batch: Batch, tasks: Tasks, drawn: Mapping[str, Mapping[str, Tensor]]) -> Image.Image:
    """What a plugin draws: for each task the label, then a column for each title.

    :param drawn: title → task → maps (B, O_t, H, W), as heads give them
    """
    decoded: dict[str, dict[str, Tensor]] = {}
    for title, maps in drawn.items():
        decoded[title] = {name: tasks[name].decode(values.float()).cpu() for name, values in maps.items()}
    has_maps = {name for maps in decoded.values() for name in maps}
    shown = [task for task in tasks if task.dense and task.name in has_maps]
    titles: list[str] = []
    for task in shown:
        titles += [f"{task.name} label", *(title for title, maps in decoded.items() if task.name in maps)]
    panels = []
    for i, image in enumerate(batch.images):
        row = [image_pixels(image)]
        for task in shown:
            row += columns_of(task, batch.targets[task.name][i], decoded, i)
        panels.append(row)
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
