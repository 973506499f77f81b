"""One split of NYU-v2 from a folder.

Shape letters: N images, H and W image size.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from mtl_core.data import Sample
from mtl_core.errors import DataError
from mtl_core.tasks import Depth, Normals, Segmentation, Tasks
from mtl_nyuv2 import resizing
from mtl_nyuv2.layouts import ARRAYS, FOLDERS, PICTURES, Layout

NAMES = ("bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall",
         "window")  # fmt: skip
TASKS = Tasks(
    [Segmentation(name="segmentation", channels=13, classes=NAMES), Depth(name="depth"), Normals(name="normals")]
)


class NYUv2Dataset:
    """One split.

    :param root: folder with ``train`` and ``test`` (or ``val``)
    :param split: ``"train"`` or ``"test"``
    :param size: (H, W), or None for the files' own
    :param tasks: names of the tasks, in order
    :param cache: keep what has been read and resized in memory
    :raises DataError: a folder is missing, or holds other files than its neighbours
    """

    labelled: Tensor | None = None

    def __init__(
        self, root: Path, split: str, size: tuple[int, int] | None, tasks: Sequence[str], cache: bool = True
    ) -> None:
        self.tasks, self.size, self.cache = TASKS.select(tasks), size, cache
        self.layout, folder = find_layout(root, split)
        self.images = files(folder / "image", self.layout)
        self.labels = {task: files(folder / FOLDERS[task], self.layout) for task in tasks}
        for found in self.labels.values():
            check_names(folder / "image", self.images, found)
        self.names: Sequence[str] | None = [path.stem for path in self.images]
        self.kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        if index not in self.kept:
            sample = self.read(index)
            if not self.cache:
                return sample
            self.kept[index] = sample
        kept = self.kept[index]
        return Sample(kept.image.clone(), {task: target.clone() for task, target in kept.targets.items()})

    def read(self, index: int) -> Sample:
        path = self.images[index]
        image = self.layout.image(path)
        targets = {task: self.layout.readers[task](found[index]) for task, found in self.labels.items()}
        for task, target in targets.items():
            if target.shape[-2:] != image.shape[-2:]:
                raise DataError(
                    f"{self.labels[task][index]}: {describe(target)}, but its image {path.name} is {describe(image)};"
                    " labels and images must have one size"
                )
        size = self.size or (image.shape[-2], image.shape[-1])
        resized = {task: resizing.RESIZE[task](target, size) for task, target in targets.items()}
        return Sample(resizing.image(image, size), resized)


def describe(values: Tensor) -> str:
    return f"{values.shape[-2]} × {values.shape[-1]} pixels"


def find_layout(root: Path, split: str) -> tuple[Layout, Path]:
    """The form that a root's split has."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; set plugins.nyuv2.root to the folder that holds train and test")
    if split not in PICTURES.splits:
        raise DataError(f"nyuv2: no split {split!r}; expected train or test")
    for layout in (PICTURES, ARRAYS):
        folder = root / layout.splits[split]
        if (folder / "image").is_dir() and any(p.suffix in layout.endings for p in (folder / "image").iterdir()):
            return layout, folder
    raise DataError(
        f"{root}: no images of the {split} split; expected .jpg or .png files in {root / split / 'image'}, or .npy files in"
        f" {root / ARRAYS.splits[split] / 'image'}"
    )


def files(folder: Path, layout: Layout) -> list[Path]:
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; expected the labels beside the images, or leave the task out (tasks)"
        )
    found = [path for path in folder.iterdir() if path.suffix in layout.endings]
    return sorted(found, key=lambda path: [(len(n), n) for n in re.findall(r"\d+", path.stem)] or [(0, path.stem)])


def check_names(folder: Path, images: list[Path], labels: list[Path]) -> None:
    ours, theirs = {p.stem for p in images}, {p.stem for p in labels}
    if ours != theirs:
        other = labels[0].parent if labels else folder
        lost = sorted(ours ^ theirs)[0]
        raise DataError(
            f"{other}: {len(theirs)} files, but {folder} has {len(ours)}; {lost!r} is in one of them only;"
            " every image needs a file of the same name for each task"
        )
