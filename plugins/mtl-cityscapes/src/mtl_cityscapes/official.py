"""The tree that the publishers' archives unpack to: ``{type}/{split}/{city}/{city}_{seq}_{frame}_{type}{ending}``.

An archive's name may stay as an outer folder (``gtFine_trainvaltest/gtFine/…``).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mtl_cityscapes.files import Files, Form, listed, matched
from mtl_cityscapes.pictures import read_ids, read_raw_disparity, read_uids
from mtl_core import DataError
from mtl_data import read_rgb


class _Kind(NamedTuple):
    """One type of file.

    :param folder: its folder
    :param ending: of its files' names
    :param archive: what it is published in
    """

    folder: str
    ending: str
    archive: str


IMAGES = _Kind("leftImg8bit", "_leftImg8bit.png", "leftImg8bit_trainvaltest.zip")
_CAMERAS = _Kind("camera", "_camera.json", "camera_trainvaltest.zip")
_LABELS = {
    "segmentation": _Kind("gtFine", "_gtFine_labelIds.png", "gtFine_trainvaltest.zip"),
    "parts": _Kind("gtFinePanopticParts", "_gtFinePanopticParts.tif", "gtFinePanopticParts_trainval.zip"),
    "depth": _Kind("disparity", "_disparity.png", "disparity_trainvaltest.zip"),
}
FORM = Form(
    image=read_rgb,
    labels={"segmentation": read_ids, "parts": read_uids, "depth": read_raw_disparity},
    has_ids=True,
)


def find(root: Path, split: str, tasks: tuple[str, ...], classes: int, metric: bool) -> Files | None:
    """The files of a split, or None where the root is not of this form.

    :param split: ``"train"`` or ``"val"``
    :param metric: camera files are needed
    :raises DataError: images or a whole type of label are missing
    """
    if not any(folders(root, IMAGES.folder)):
        return None
    images = _images_of(root, split)
    names = list(images)
    cities = {path.parent.name for path in images.values()}
    labels = {task: _labels_of(root, split, task, _LABELS[task], names, cities) for task in tasks}
    cameras = None
    if metric and "depth" in tasks:
        cameras = _labels_of(root, split, "depth", _CAMERAS, names, cities)
    return Files(FORM, names, list(images.values()), labels, cameras)


def folders(root: Path, kind: str) -> list[Path]:
    """The folders of one type: bare, then under an archive's name."""
    return [path for path in (root / kind, *sorted(root.glob(f"{kind}_*/{kind}"))) if path.is_dir()]


def _split_folder(root: Path, kind: str, split: str) -> Path:
    """The folder of one type and split; where there is none, the one that is expected."""
    made = [path / split for path in folders(root, kind)] or [root / kind / split]
    return next((path for path in made if path.is_dir()), made[0])


def _images_of(root: Path, split: str) -> dict[str, Path]:
    """Name → image, by city and then by number."""
    folder = _split_folder(root, IMAGES.folder, split)
    found: dict[str, Path] = {}
    for city in _cities_of(folder):
        images = _named(city, IMAGES)
        if not images:
            raise DataError(
                f"{city}: no file *{IMAGES.ending}; expected the images of a city; unpack {IMAGES.archive} again,"
                " or remove the folder"
            )
        found |= images
    if not found:
        raise DataError(
            f"{folder}: no images of the {split} split; expected {folder}/CITY/CITY_SEQUENCE_FRAME{IMAGES.ending};"
            f" unpack {IMAGES.archive}"
        )
    return found


def _cities_of(folder: Path) -> list[Path]:
    """The folders of the cities, in order."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _named(city: Path, kind: _Kind) -> dict[str, Path]:
    """Name without ending → file of one type in a city's folder.

    :raises DataError: a file that belongs to another city
    """
    found = {path.name.removesuffix(kind.ending): path for path in listed(city, kind.ending)}
    for name, path in found.items():
        if name.partition("_")[0] != city.name:
            raise DataError(
                f"{path}: not a file of {city.name}; expected {city.name}_…{kind.ending};"
                " move it to its city, or remove it"
            )
    return found


def _labels_of(root: Path, split: str, task: str, kind: _Kind, names: list[str], cities: set[str]) -> list[Path | None]:
    """The file of one type for each image; cities without any image are left out."""
    folder = _split_folder(root, kind.folder, split)
    found: dict[str, Path] = {}
    for city in _cities_of(folder):
        if city.name in cities:
            found |= _named(city, kind)
    return matched(task, names, found, folder, f"unpack {kind.archive} into {root}")
