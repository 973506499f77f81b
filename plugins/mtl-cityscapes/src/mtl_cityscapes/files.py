"""What the readers of all trees share: the files of one split, and how they are found by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
from torch import Tensor

from mtl_core import DataError

Reader = Callable[[Path], Tensor]


@attrs.frozen
class Form:
    """How a tree stores images and labels.

    :param image: reads an image
    :param labels: task → what reads its label: ids or classes, uids, raw disparity
    :param has_ids: labels of the segmentation are Cityscapes' ids; otherwise they are classes
    """

    image: Reader
    labels: Mapping[str, Reader]
    has_ids: bool


@attrs.frozen
class Files:
    """The files of one split: an entry per image, None where the tree lacks the file of that image.

    :param labels: task → files
    :param cameras: the images' camera files, where they are needed
    """

    form: Form
    names: Sequence[str]
    images: Sequence[Path]
    labels: Mapping[str, Sequence[Path | None]]
    cameras: Sequence[Path | None] | None = None

    def paths(self) -> list[Path]:
        """Every file, in an order that depends on names alone."""
        groups = [self.images, *self.labels.values(), self.cameras or []]
        return [path for group in groups for path in group if path is not None]


def listed(folder: Path, ending: str) -> list[Path]:
    """A folder's files with an ending, in the order of the numbers in their names; hidden files are left out."""
    found = [path for path in folder.iterdir() if path.name.endswith(ending) and not path.name.startswith(".")]
    return sorted(found, key=lambda path: ([int(n) for n in re.findall(r"\d+", path.name)], path.name))


def by_stem(folder: Path, ending: str) -> dict[str, Path]:
    """Name without the ending → file; none where there is no such folder."""
    paths = listed(folder, ending) if folder.is_dir() else []
    return {path.name.removesuffix(ending): path for path in paths}


def matched(
    task: str, names: Collection[str], found: Mapping[str, Path], where: Path, remedy: str
) -> list[Path | None]:
    """The label of each image, None where it has none.

    :param found: name → label
    :param where: the folder that should hold them
    :param remedy: what to do where it holds none
    :raises DataError: no image has a label, or a label has no image
    """
    missing = [name for name in names if name not in found]
    if len(missing) == len(names):
        state = "no such folder" if not where.is_dir() else f"no label of any of the {len(names)} images"
        raise DataError(
            f"{where}: {state}; expected the labels of the task {task!r}; {remedy},"
            f" or leave {task!r} out of plugins.cityscapes.tasks"
        )
    alone = next(_lonely(names, found), None)
    if alone is not None:
        raise DataError(
            f"{alone}: a label of no image; expected an image of the same name; copy the images again, or remove it"
        )
    return [found.get(name) for name in names]


def _lonely(names: Collection[str], found: Mapping[str, Path]) -> Iterator[Path]:
    """Labels without an image."""
    known = set(names)
    return (path for name, path in found.items() if name not in known)
