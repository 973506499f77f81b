"""Auto-λ's tree of small pictures: ``{train,val}/{image,seg,part_seg,depth}/{i}.{png,tif}``.

Its script (lorenmt/auto-lambda, ``dataset/cityscapes_preprocess.py``) misses two slashes: training parts become
``train/part_seg{i}.tif``, which is read too, and training images go beside the tree.
"""

from __future__ import annotations

from pathlib import Path

from mtl_cityscapes.files import Files, Form, by_stem, matched
from mtl_cityscapes.official import FORM as OFFICIAL
from mtl_core import DataError

_FORM = Form(image=OFFICIAL.image, labels=OFFICIAL.labels, has_ids=True)
_LABELS = {"segmentation": ("seg", ".png"), "parts": ("part_seg", ".tif"), "depth": ("depth", ".png")}


def find(root: Path, split: str, tasks: tuple[str, ...], classes: int, metric: bool) -> Files | None:
    """The files of a split, or None where the root is not of this form.

    :raises DataError: a whole type of label is missing, or depth in metres is asked for
    """
    folder = root / split
    images = by_stem(folder / "image", ".png")
    if not images:
        _check_not_beside(root, split)
        return None
    if metric and "depth" in tasks:
        raise DataError(
            f'{root}: Auto-λ\'s tree has no camera files, which depth = "metres" needs; use the official tree,'
            ' or depth = "disparity"'
        )
    labels = {task: _labels_of(folder, task, list(images)) for task in tasks}
    return Files(_FORM, list(images), list(images.values()), labels)


def _labels_of(folder: Path, task: str, names: list[str]) -> list[Path | None]:
    kind, ending = _LABELS[task]
    found = by_stem(folder / kind, ending)
    if task == "parts" and not found:
        beside = by_stem(folder, ending)
        found = {name.removeprefix(kind): path for name, path in beside.items() if name.startswith(kind)}
    return matched(task, names, found, folder / kind, "make it with Auto-λ's cityscapes_preprocess.py")


def _check_not_beside(root: Path, split: str) -> None:
    """:raises DataError: there are labels of this form and the script has put their images elsewhere"""
    elsewhere = root.parent.with_name(root.parent.name + root.name) / split / "image"
    if (root / split / "seg").is_dir() and elsewhere.is_dir():
        raise DataError(
            f"{root / split / 'image'}: no images, but there are some in {elsewhere}, where Auto-λ's script puts them"
            " by mistake; move that folder here"
        )
