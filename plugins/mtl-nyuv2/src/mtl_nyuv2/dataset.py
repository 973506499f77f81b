"""One split of NYU-v2.

Shape letters: N images, H and W image size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from torch import Tensor

from mtl_core import BinaryEdges, DataError, Depth, MultiTaskDataset, Normals, Sample, Segmentation, Tasks
from mtl_data import cached, resize_image, resize_nearest, resize_normals
from mtl_nyuv2.layouts import Wanted, open_source
from mtl_nyuv2.official import names_of
from mtl_nyuv2.sources import Source

_Size = tuple[int, int]

_RESIZE = {"segmentation": resize_nearest, "depth": resize_nearest, "normals": resize_normals, "edges": resize_nearest}


def open_dataset(root: Path, split: str, size: _Size | None, wanted: Wanted, cache: bool = True) -> MultiTaskDataset:
    """One split, in whatever form it lies on the disk.

    :param root: folder of the data, or the official file
    :param split: ``"train"`` or ``"test"``
    :param size: (H, W), or None for the files' own
    :param wanted: tasks, and how they are read
    :param cache: keep decoded samples in the cache folder
    :raises DataError: a folder is missing, or holds other files than its neighbours
    """
    source = open_source(root, split, wanted)
    dataset = NYUv2Dataset(source, size, wanted)
    settings = {
        "split": split, "size": size, "tasks": wanted.tasks, "classes": wanted.classes,
        "normals": None if wanted.normals is None else str(wanted.normals.absolute()),
    }  # fmt: skip
    return cached(dataset, source.files, settings, cache)


def _tasks_for(wanted: Wanted) -> Tasks:
    """The tasks that are asked for, in order."""
    names = names_of(wanted.classes)
    every = Tasks(
        [
            Segmentation(name="segmentation", channels=len(names), classes=names),
            Depth(name="depth"),
            Normals(name="normals"),
            BinaryEdges(name="edges"),
        ]
    )
    return every.select(wanted.tasks)


class NYUv2Dataset:
    """One split of N images, resized.

    :param source: the files
    :param size: (H, W), or None for the files' own
    :param wanted: tasks, and how they are read
    """

    labelled: Tensor | None = None

    def __init__(self, source: Source, size: _Size | None, wanted: Wanted) -> None:
        self.source = source
        self.tasks = _tasks_for(wanted)
        self.plugin = wanted.plugin
        self.names: Sequence[str] | None = list(source.names)
        self.resizes = size is not None
        self.size = size or _dimensions(source.image(0))

    def __len__(self) -> int:
        return len(self.source.names)

    def __getitem__(self, index: int) -> Sample:
        """A sample from its files.

        :raises DataError: a file that cannot be read, or is not of the expected form
        """
        return self.sample_with(index, self.tasks.names)

    def sample_with(self, index: int, tasks: Collection[str]) -> Sample:
        """A sample of which only some labels are read."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.plugin}: there is no image {index} of {len(self)}")
        image = self.source.image(index)
        self._check_size(index, _dimensions(image))
        targets = {task: self.source.label(task, index) for task in self.tasks.names if task in tasks}
        for task, target in targets.items():
            self._check_same_size(index, task, _dimensions(target), _dimensions(image))
        resized = {task: _RESIZE[task](target, self.size) for task, target in targets.items()}
        return Sample(resize_image(image, self.size), resized)

    def _check_size(self, index: int, found: _Size) -> None:
        if not self.resizes and found != self.size:
            first = Path(self.source.where(0)).name
            raise DataError(
                f"{self.source.where(index)}: {_pixels(found)}, but {first} is {_pixels(self.size)};"
                f" with images of several sizes set plugins.{self.plugin}.size to [height, width]"
            )

    def _check_same_size(self, index: int, task: str, found: _Size, expected: _Size) -> None:
        if found != expected:
            image = Path(self.source.where(index)).name
            raise DataError(
                f"{self.source.where(index, task)}: {_pixels(found)}, but its image {image} is {_pixels(expected)};"
                " an image and its labels must be of one size; copy the folders from one version of the data"
            )


def _dimensions(values: Tensor) -> _Size:
    return int(values.shape[-2]), int(values.shape[-1])


def _pixels(size: _Size) -> str:
    return f"{size[0]} × {size[1]} pixels"
