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

"""(decoded prediction, label or None)"""

_Row = tuple[Tensor, Mapping[str, _Pair]]
"""(image (3, H, W), task → its pair)"""

_Limits = tuple[float, float]
"""The values that are drawn darkest and lightest."""

_TITLE = 16
"""Height of the line above the columns."""

_GAP = 4

_WIDTH = 144
"""Small images are drawn about so wide."""


def _striped(pixels: Pixels, valid: NDArray[Any]) -> Pixels:
    """Grey stripes where a label does not count."""
    y, x = np.indices(valid.shape)
    stripes = np.where((x + y) // 2 % 2 == 0, 70, 100).astype(np.uint8)
    return np.where(valid[..., None], pixels, stripes[..., None])


def _value_range(maps: Sequence[NDArray[Any]]) -> _Limits:
    """Common range of several maps, without the outer two per cent."""
    kept = np.concatenate([values[np.isfinite(values)].ravel() for values in maps])
    if not kept.size:
        return 0.0, 1.0
    return float(np.percentile(kept, 2)), float(np.percentile(kept, 98))


def _limits_of(task: Task, pairs: Sequence[_Pair]) -> _Limits:
    """The scale on which a task's maps are drawn: the range of its labels, of its predictions where there is none."""
    labels = [_flat(label)[_valid(task, label)] for _, label in pairs if label is not None]
    known = [values for values in labels if values.size]
    return _value_range(known or [_flat(prediction) for prediction, _ in pairs])


def _flat(label: Tensor) -> NDArray[Any]:
    values: NDArray[Any] = (label.float().mean(0) if label.ndim == 3 else label.float()).numpy()
    return values


def _valid(task: Task, label: Tensor) -> NDArray[Any]:
    valid: NDArray[Any] = task.valid(label[None])[0, 0].numpy()
    return valid


def _drawn_pair(task: Task, prediction: Tensor, label: Tensor | None, limits: _Limits | None = None) -> list[Pixels]:
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


def sheet_limits(rows: Sequence[_Row], tasks: Tasks) -> dict[str, _Limits]:
    """Task → the scale on which a sheet draws it, one for all rows."""
    limits: dict[str, _Limits] = {}
    for task in _dense(tasks):
        own = [pairs[task.name] for _, pairs in rows]
        limits[task.name] = _limits_of(task, own)
    return limits


def _dense(tasks: Tasks) -> list[Task]:
    return [task for task in tasks if task.dense]


def sheet(rows: Sequence[_Row], tasks: Tasks) -> Image.Image:
    """Images, predictions and labels side by side, a row per image; tasks per image are left out."""
    shown = _dense(tasks)
    limits = sheet_limits(rows, tasks)
    panels = [[_image_pixels(image), *_cells(shown, pairs, limits)] for image, pairs in rows]
    labelled = any(_has_label(pairs) for _, pairs in rows)
    titles = ["image"]
    for task in shown:
        titles += [task.name, "label"] if labelled else [task.name]
    return _pasted(panels, titles)


def _has_label(pairs: Mapping[str, _Pair]) -> bool:
    return any(label is not None for _, label in pairs.values())


def pairs(tasks: Tasks, batch: Batch, predictions: Mapping[str, Tensor]) -> list[_Row]:
    """Rows of :func:`sheet` from a batch and what the heads gave for it."""
    decoded = {task.name: task.decode(predictions[task.name].float()).cpu() for task in tasks}
    rows: list[_Row] = []
    for i, image in enumerate(batch.images):
        own: dict[str, _Pair] = {name: (maps[i], batch.targets[name][i]) for name, maps in decoded.items()}
        rows.append((image, own))
    return rows


def drawings(batch: Batch, tasks: Tasks, drawn: Mapping[str, Mapping[str, Tensor]]) -> Image.Image:
    """What a plugin draws: for each task the label, then a column for each title.

    :param drawn: title → task → maps (B, O_t, H, W), as heads give them
    """
    limits = drawing_limits(batch, tasks, drawn)
    panels = [[_image_pixels(image)] for image in batch.images]
    titles = ["image"]
    for task in _dense(tasks):
        maps = {title: own[task.name] for title, own in drawn.items() if task.name in own}
        if not maps:
            continue
        titles += [f"{task.name} label", *maps]
        decoded = [task.decode(values.float()).cpu() for values in maps.values()]
        for i, label in enumerate(batch.targets[task.name]):
            panels[i] += _columns_of(task, label, [values[i] for values in decoded], limits[task.name])
    return _pasted(panels, titles)


def drawing_limits(batch: Batch, tasks: Tasks, drawn: Mapping[str, Mapping[str, Tensor]]) -> dict[str, _Limits]:
    """Task → the scale on which a plugin's maps are drawn."""
    limits: dict[str, _Limits] = {}
    for task in _dense(tasks):
        first = next((maps[task.name] for maps in drawn.values() if task.name in maps), None)
        if first is not None:
            decoded = task.decode(first.float()).cpu()
            limits[task.name] = _limits_of(task, list(zip(decoded, batch.targets[task.name], strict=True)))
    return limits


def _columns_of(task: Task, label: Tensor, maps: Sequence[Tensor], limits: _Limits) -> list[Pixels]:
    """The label, then each of the maps."""
    shown = _striped(task.picture(label, limits), _valid(task, label))
    return [shown, *(task.picture(values, limits) for values in maps)]


def _cells(shown: Sequence[Task], pairs: Mapping[str, _Pair], limits: Mapping[str, _Limits]) -> list[Pixels]:
    """Predictions and labels of one image."""
    panels: list[Pixels] = []
    for task in shown:
        prediction, label = pairs[task.name]
        panels += _drawn_pair(task, prediction, label, limits[task.name])
    return panels


def _pasted(panels: Sequence[Sequence[Pixels]], titles: Sequence[str]) -> Image.Image:
    """Panels in rows and columns, each column with its title; small ones are enlarged."""
    height, width = panels[0][0].shape[:2]
    zoom = max(1, round(_WIDTH / width))
    height *= zoom
    width *= zoom
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
