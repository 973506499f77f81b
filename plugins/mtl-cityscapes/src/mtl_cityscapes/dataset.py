"""One split of Cityscapes from its files.

Shape letters: N images, K tasks, H and W image size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mtl_cityscapes import depths
from mtl_cityscapes.files import Files
from mtl_cityscapes.labels import class_of_id, parts_of
from mtl_cityscapes.pictures import read_camera
from mtl_cityscapes.tasks import make_task
from mtl_core import DataError, Sample, Tasks
from mtl_data import resize_image, resize_nearest

if TYPE_CHECKING:
    from pathlib import Path

    from mtl_cityscapes import Cityscapes

_Size = tuple[int, int]
_DECIDING = ("tasks", "classes", "rare", "depth", "max_depth")
"""Options that change what a sample is."""
_BLANK_TYPES = {"segmentation": torch.int64, "parts": torch.int64, "depth": torch.float32}


class CityscapesDataset:
    """One split of N images.

    A label is resized as its file holds it, by nearest neighbour, and then decoded. An image whose file of a label is
    missing has a blank one, and False in ``labelled``.

    :param files: where everything lies
    :param options: of the plugin
    """

    def __init__(self, files: Files, options: Cityscapes) -> None:
        self.files = files
        self.options = options
        self.tasks = Tasks([make_task(name, options.classes, options.depth, options.zoom) for name in options.tasks])
        self.names: Sequence[str] | None = list(files.names)
        self.labelled = self._find_labelled()
        self.size = options.size or _dimensions(files.form.image(files.images[0]))
        self.class_of_id = class_of_id(options.classes, options.rare)

    def settings(self) -> dict[str, object]:
        """Whatever decides what a sample is, beside the files."""
        return {"size": self.size, **{name: getattr(self.options, name) for name in _DECIDING}}

    def _find_labelled(self) -> Tensor | None:
        """Bool (N, K), or None where every image has every label."""
        columns = [[self._has_label(name, i) for i in range(len(self))] for name in self.tasks.names]
        labelled = torch.tensor(columns).T.contiguous()
        return None if bool(labelled.all()) else labelled

    def _has_label(self, task: str, index: int) -> bool:
        has_camera = task != "depth" or self.files.cameras is None or self.files.cameras[index] is not None
        return has_camera and self.files.labels[task][index] is not None

    def __len__(self) -> int:
        return len(self.files.images)

    def __getitem__(self, index: int) -> Sample:
        """A sample from its files.

        :raises DataError: a file that cannot be read, or is not of the expected form
        """
        return self.sample_with(index, self.tasks.names)

    def sample_with(self, index: int, tasks: Collection[str]) -> Sample:
        """A sample of which only some labels are read."""
        if not 0 <= index < len(self):
            raise IndexError(f"cityscapes: there is no image {index} of {len(self)}")
        image = self.files.form.image(self.files.images[index])
        found = _dimensions(image)
        self._check_size(index, found)
        targets = {name: self.read_label(name, index, found) for name in self.tasks.names if name in tasks}
        return Sample(resize_image(image, self.size), targets)

    def read_label(self, task: str, index: int, size: _Size) -> Tensor:
        path = self.files.labels[task][index]
        if path is None or not self._has_label(task, index):
            return self.blank(task)
        raw = self.files.form.labels[task](path)
        _check_same_size(path, _dimensions(raw), self.files.images[index], size)
        return self.decode(task, resize_nearest(raw, self.size), index)

    def blank(self, task: str) -> Tensor:
        shape = (1, *self.size) if task == "depth" else self.size
        return self.tasks[task].blank(torch.empty(shape, dtype=_BLANK_TYPES[task]))

    def decode(self, task: str, raw: Tensor, index: int) -> Tensor:
        """A label from the numbers of its file, which have the size of the sample already."""
        if task == "parts":
            return parts_of(raw)
        if task == "segmentation":
            return self.class_of_id[raw.long()] if self.files.form.has_ids else raw.long()
        if self.options.depth == "published":
            return depths.published(raw)
        if self.options.depth == "disparity":
            return depths.disparity(raw, self.size[1])
        return depths.metres(raw, self.camera(index), self.options.max_depth)

    def camera(self, index: int) -> depths.Camera:
        path = self.files.cameras[index] if self.files.cameras is not None else None
        assert path is not None, "depth in metres without a camera is a missing label"
        return read_camera(path)

    def _check_size(self, index: int, found: _Size) -> None:
        if self.options.size is None and found != self.size:
            raise DataError(
                f"{self.files.images[index]}: {_pixels(found)}, but {self.files.images[0].name} is"
                f" {_pixels(self.size)};"
                " with images of several sizes set plugins.cityscapes.size to [height, width]"
            )


def _check_same_size(path: Path, found: _Size, image: Path, expected: _Size) -> None:
    if found != expected:
        raise DataError(
            f"{path}: {_pixels(found)}, but its image {image.name} is {_pixels(expected)};"
            " an image and its labels must be of one size; copy the folders from one version of the data"
        )


def _dimensions(values: Tensor) -> _Size:
    return int(values.shape[-2]), int(values.shape[-1])


def _pixels(size: _Size) -> str:
    return f"{size[0]} × {size[1]} pixels"
