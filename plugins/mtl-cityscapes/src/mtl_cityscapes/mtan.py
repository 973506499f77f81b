"""MTAN's tree of arrays: ``{train,val}/{image,label_7,label_19,depth}/{i}.npy``; LibMTL's copy has ``label``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mtl_cityscapes.arrays import read_classes, read_raw_disparity
from mtl_cityscapes.files import Files, Form, Reader, by_stem, matched
from mtl_core import DataError
from mtl_data import read_unit_image

_LABELS = {19: ("label_19",), 7: ("label_7", "label")}
"""Where the classes lie; the first folder that is there is read."""


def form(classes: int) -> Form:
    readers: dict[str, Reader] = {"segmentation": partial(read_classes, classes=classes), "depth": read_raw_disparity}
    return Form(image=read_unit_image, labels=readers, has_ids=False)


def check_has(root: Path, tasks: tuple[str, ...], metric: bool) -> None:
    """:raises DataError: the arrays lack what is asked for"""
    if "parts" in tasks:
        raise DataError(
            f"{root}: the published arrays have no parts; use the official tree or Auto-λ's,"
            " or leave 'parts' out of plugins.cityscapes.tasks"
        )
    if metric and "depth" in tasks:
        raise DataError(
            f'{root}: the published arrays have no camera files, which depth = "metres" needs; use the official tree,'
            ' or depth = "disparity" or "published"'
        )


def find(root: Path, split: str, tasks: tuple[str, ...], classes: int, metric: bool) -> Files | None:
    """The files of a split, or None where the root is not of this form.

    :raises DataError: a whole type of label is missing, or the arrays lack what is asked for
    """
    folder = root / split
    images = by_stem(folder / "image", ".npy")
    if not images:
        return None
    check_has(root, tasks, metric)
    places = {"segmentation": _label_folder(folder, classes), "depth": folder / "depth"}
    labels = {
        task: matched(task, list(images), by_stem(places[task], ".npy"), places[task], _remedy(folder, task, classes))
        for task in tasks
    }
    return Files(form(classes), list(images), list(images.values()), labels)


def _label_folder(folder: Path, classes: int) -> Path:
    places = [folder / name for name in _LABELS[classes]]
    return next((place for place in places if place.is_dir()), places[0])


def _remedy(folder: Path, task: str, classes: int) -> str:
    other = 7 if classes == 19 else 19
    if task == "segmentation" and _label_folder(folder, other).is_dir():
        return f"there are labels of {other} classes: set plugins.cityscapes.classes to {other}"
    return "copy it from the published archive"
