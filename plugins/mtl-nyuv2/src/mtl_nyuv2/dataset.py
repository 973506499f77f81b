"""One split of NYU-v2 from a folder.

Shape letters: N images, H and W image size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mtl_core import DataError, Depth, Normals, Sample, Segmentation, Tasks
from mtl_nyuv2 import resizing
from mtl_nyuv2.cache import Cache, Field
from mtl_nyuv2.layouts import FOLDERS, by_name, find_layout, labels_of
from mtl_nyuv2.values import CLASSES

TASKS = Tasks(
    [
        Segmentation(name="segmentation", channels=len(CLASSES), classes=CLASSES),
        Depth(name="depth"),
        Normals(name="normals"),
    ]
)


class NYUv2Dataset:
    """One split of N images.

    :param root: folder with ``train`` and ``test`` (or ``val``)
    :param split: ``"train"`` or ``"test"``
    :param size: (H, W), or None for the files' own
    :param tasks: names of the tasks, in order
    :param cache: keep what has been read and resized in memory, up to 2 GiB
    :raises DataError: a folder is missing, or holds other files than its neighbours
    """

    labelled: Tensor | None = None

    def __init__(
        self, root: Path, split: str, size: tuple[int, int] | None, tasks: Sequence[str], cache: bool = True
    ) -> None:
        self.tasks, self.resizes = TASKS.select(tasks), size is not None
        self.layout, folder = find_layout(root, split)
        images = by_name(folder / "image", self.layout.endings)
        self.names: Sequence[str] | None = list(images)
        self.images = list(images.values())
        self.labels = {task: labels_of(images, folder / FOLDERS[task], self.layout.endings) for task in tasks}
        first = self.layout.image(self.images[0])
        self.size = size or dimensions(first)
        kind = "u1" if first.dtype == torch.uint8 else "f4"
        self.cache = Cache(len(self) if cache else 0, (kind, (3, *self.size)), kept_as(self.size, tasks))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"nyuv2: there is no image {index} of {len(self)}")
        sample = self.cache.get(index)
        if sample is None:
            sample = self.read(index)
            self.cache.put(index, sample)
        return sample

    def read(self, index: int) -> Sample:
        """A sample from its files.

        :raises DataError: a file that cannot be read, or is not of the expected form
        """
        image = self.layout.image(self.images[index])
        self.check_size(index, dimensions(image))
        targets = {task: self.layout.labels[task](files[index]) for task, files in self.labels.items()}
        for task, target in targets.items():
            check_same_size(self.labels[task][index], dimensions(target), self.images[index], dimensions(image))
        resized = {task: resizing.RESIZE[task](target, self.size) for task, target in targets.items()}
        return Sample(resizing.image(image, self.size), resized)

    def check_size(self, index: int, found: tuple[int, int]) -> None:
        if not self.resizes and found != self.size:
            raise DataError(
                f"{self.images[index]}: {pixels(found)}, but {self.images[0].name} is {pixels(self.size)};"
                " with images of several sizes set plugins.nyuv2.size to [height, width]"
            )


def check_same_size(path: Path, found: tuple[int, int], image: Path, expected: tuple[int, int]) -> None:
    if found != expected:
        raise DataError(
            f"{path}: {pixels(found)}, but its image {image.name} is {pixels(expected)};"
            " an image and its labels must be of one size; copy the folders from one version of the data"
        )


def dimensions(values: Tensor) -> tuple[int, int]:
    return int(values.shape[-2]), int(values.shape[-1])


def pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]} pixels"


def kept_as(size: tuple[int, int], tasks: Sequence[str]) -> dict[str, Field]:
    """How labels are kept: a byte for a class, the rest as it is."""
    kinds: dict[str, Field] = {
        "segmentation": ("i1", size),
        "depth": ("f4", (1, *size)),
        "normals": ("f4", (3, *size)),
    }
    return {task: kinds[task] for task in tasks}
