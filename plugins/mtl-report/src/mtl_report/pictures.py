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

_Pair = tuple[Tensor, Tensor | None]

_Row = tuple[Tensor, Mapping[str, _Pair]]


_TITLE = 16

_GAP = 4


def _striped(pixels: Pixels, valid: NDArray[Any]) -> Pixels:
    """Grey stripes where a label does not count."""
    y, x = np.indices(valid.shape)
    stripes = np.where((x + y) // 2 % 2 == 0, 70, 100).astype(np.uint8)
    return np.where(valid[..., None], pixels, stripes[..., None])


def _value_range(maps: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Common range of several maps, without the outer two per cent."""
    kept = np.concatenate([m[np.isfinite(m)].ravel() for m in maps])
    return (float(np.percentile(kept, 2)), float(np.percentile(kept, 98))) if kept.size else (0.0, 1.0)


def _limits_of(task: Task, pairs: Sequence[_Pair]) -> tuple[float, float]:
    """The scale on which a task's maps are drawn: the range of its labels, of its predictions where there is none."""
    known = [_flat(label)[_valid(task, label)] for _, label in pairs if label is not None]
    known = [values for values in known if values.size]
    return _value_range(known or [_flat(prediction) for prediction, _ in pairs])


def _flat(label: Tensor) -> NDArray[Any]:
    values: NDArray[Any] = (label.float().mean(0) if label.ndim == 3 else label.float()).numpy()
    return values


def _valid(task: Task, label: Tensor) -> NDArray[Any]:
    valid: NDArray[Any] = task.valid(label[None])[0, 0].numpy()
    return valid


def _drawn_pair(
    task: Task, prediction: Tensor, label: Tensor | None, limits: tuple[float, float] | None = None
) -> list[Pixels]:
    """Prediction and label on one scale.

    :param limits: of the scale; None: that of this pair
    """
    limits = _limits_of(task, [(prediction, label)]) if limits is None else limits
    if label is None:
        return [task.picture(prediction, limits)]
    return [task.picture(prediction, limits), _striped(task.picture(label, limits), _valid(task, label))]


def _image_pixels(image: Tensor) -> Pixels:
    values = image if not image.is_floating_point() else (image.clamp(0, 1) * 255).round()
    return values.numpy().astype(np.uint8).transpose(1, 2, 0)


def sheet_limits(rows: Sequence[_Row], tasks: Tasks) -> dict[str, tuple[float, float]]:
    """Task → the scale on which a sheet draws it, one for all rows."""
    return {task.name: _limits_of(task, [pairs[task.name] for _, pairs in rows]) for task in _dense(tasks)}


def _dense(tasks: Tasks) -> list[Task]:
    return [task for task in tasks if task.dense]


def sheet(rows: Sequence[_Row], tasks: Tasks) -> Image.Image:
    """Images, predictions and labels side by side, a row per image; tasks per image are left out.

    :param rows: (image (3, H, W), task → (decoded prediction, label or None))
    """
    shown, limits = _dense(tasks), sheet_limits(rows, tasks)
    panels = [[_image_pixels(image), *_cells(shown, pairs, limits)] for image, pairs in rows]
    labelled = any(label is not None for _, pairs in rows for _, label in pairs.values())
    titles = ["image"] + [t for task in shown for t in ([task.name, "label"] if labelled else [task.name])]
    height, width = panels[0][0].shape[:2]
    zoom = max(1, round(144 / width))
    return _pasted(panels, titles, (height * zoom, width * zoom))


def pairs(tasks: Tasks, batch: Batch, predictions: Mapping[str, Tensor]) -> list[_Row]:
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
    limits = drawing_limits(batch, tasks, drawn)
    panels = [[_image_pixels(image)] for image in batch.images]
    for i, row in enumerate(panels):
        for task in shown:
            row += _columns_of(task, batch.targets[task.name][i], decoded, i, limits[task.name])
    titles = [x for task in shown for x in (f"{task.name} label", *(t for t in decoded if task.name in decoded[t]))]
    height, width = panels[0][0].shape[:2]
    zoom = max(1, round(144 / width))
    return _pasted(panels, ["image", *titles], (height * zoom, width * zoom))


def drawing_limits(
    batch: Batch, tasks: Tasks, drawn: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, tuple[float, float]]:
    """Task → the scale on which a plugin's maps are drawn."""
    limits: dict[str, tuple[float, float]] = {}
    for task in _dense(tasks):
        first = next((maps[task.name] for maps in drawn.values() if task.name in maps), None)
        if first is not None:
            decoded = task.decode(first.float()).cpu()
            limits[task.name] = _limits_of(task, list(zip(decoded, batch.targets[task.name], strict=True)))
    return limits


def _columns_of(
    task: Task, label: Tensor, decoded: Mapping[str, Mapping[str, Tensor]], i: int, limits: tuple[float, float]
) -> list[Pixels]:
    maps = [found[task.name][i] for found in decoded.values() if task.name in found]
    return [_drawn_pair(task, maps[0], label, limits)[1], *(_drawn_pair(task, one, label, limits)[0] for one in maps)]


def _cells(
    shown: Sequence[Task], pairs: Mapping[str, _Pair], limits: Mapping[str, tuple[float, float]]
) -> list[Pixels]:
    return [panel for task in shown for panel in _drawn_pair(task, *pairs[task.name], limits[task.name])]


def _pasted(panels: Sequence[Sequence[Pixels]], titles: Sequence[str], size: tuple[int, int]) -> Image.Image:
    height, width = size
    canvas = Image.new(
        "RGB", (len(titles) * (width + _GAP) - _GAP, _TITLE + len(panels) * (height + _GAP) - _GAP), "white"
    )
    draw = ImageDraw.Draw(canvas)
    for x, title in enumerate(titles):
        draw.text((x * (width + _GAP) + 2, 2), title, fill="black")
        for y, row in enumerate(panels):
            picture = Image.fromarray(row[x]).resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(picture, (x * (width + _GAP), _TITLE + y * (height + _GAP)))
    return canvas
