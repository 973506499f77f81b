"""One split of Taskonomy.

Shape letters: N views, K tasks, H and W image size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Generic, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_core import DataError, Sample
from mtl_data import read_rgb, resize_image
from mtl_taskonomy.domains import BIT, DOMAINS, FOLDER_OF
from mtl_taskonomy.index import Index
from mtl_taskonomy.labels import Form
from mtl_taskonomy.tasks import tasks_of

_T = TypeVar("_T")
_Size = tuple[int, int]


class _OnDemand(Sequence[_T], Generic[_T]):
    """N things that are made when they are asked for: millions of names or paths would fill the memory.

    :param make: from a position
    """

    def __init__(self, size: int, make: Callable[[int], _T]) -> None:
        self._size = size
        self._make = make

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, place: int) -> _T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[_T]: ...
    def __getitem__(self, place: int | slice) -> _T | Sequence[_T]:
        if isinstance(place, slice):
            return [self._make(i) for i in range(self._size)[place]]
        return self._make(range(self._size)[place])


class TaskonomyDataset:
    """Some views of an index.

    A label that a view lacks is blank, and False in ``labelled``.

    :param root: the folder that the index is of
    :param rows: positions of the views in the index (N,); each has an image
    :param tasks: names of the tasks, in order
    :param size: (H, W), or None for the files' own
    :param form: how labels are given
    """

    def __init__(
        self, root: Path, index: Index, rows: NDArray[np.int64], tasks: Sequence[str], size: _Size | None, form: Form
    ) -> None:
        self.root = root
        self.form = form
        self.resizes = size is not None
        self.tasks = tasks_of(tasks, form.depth)
        self.views = index.views[rows]
        self.buildings = index.buildings
        self.folders = {(folder.building, folder.domain): (folder.path, folder.written) for folder in index.folders}
        self.labelled = self._own_mask()
        self.names: Sequence[str] | None = _OnDemand(len(self), self.name)
        self.size = size or _dimensions(read_rgb(self.path(0, "rgb")))

    def _own_mask(self) -> Tensor | None:
        """Which view has which label, bool (N, K); None where every view has every label."""
        columns = [self.views["domains"] >> BIT[FOLDER_OF[name]] & 1 for name in self.tasks.names]
        labelled = torch.from_numpy(np.stack(columns, 1).astype(bool))
        return None if labelled.all() else labelled

    def __len__(self) -> int:
        return len(self.views)

    def name(self, index: int) -> str:
        view = self.views[index]
        return f"{self.buildings[view['building']]}/point_{view['point']}_view_{view['view']}"

    def has(self, index: int, domain: str) -> bool:
        return bool(self.views[index]["domains"] >> BIT[domain] & 1)

    def path(self, index: int, domain: str) -> Path:
        """The file of a domain that the view has."""
        view = self.views[index]
        folder, written = self.folders[self.buildings[view["building"]], domain]
        return self.root / folder / f"point_{view['point']}_view_{view['view']}_domain_{written}.png"

    def files(self) -> Sequence[Path]:
        """Every file that samples are read from, on demand; a domain that a view lacks has its image in its place."""
        domains = self.domains()
        return _OnDemand(len(self) * len(domains), lambda place: self.file(*divmod(place, len(domains)), domains))

    def file(self, index: int, column: int, domains: Sequence[str]) -> Path:
        domain = domains[column]
        return self.path(index, domain if self.has(index, domain) else "rgb")

    def domains(self) -> list[str]:
        """The domains that are read, in the index's order."""
        masks = [self.form.mask_folder(task) for task in self.tasks.names]
        wanted = {"rgb", *(FOLDER_OF[task] for task in self.tasks.names), *(mask for mask in masks if mask)}
        return [domain.folder for domain in DOMAINS if domain.folder in wanted]

    def without_mask(self) -> int:
        """How many views have a label that should be masked, and no file to do it with."""
        masked = [task for task in self.tasks.names if self.form.mask_folder(task)]
        if not masked:
            return 0
        bits = self.views["domains"]
        lacks = bits >> BIT[self.form.mask_folder(masked[0]) or "rgb"] & 1 == 0
        labelled = np.any([bits >> BIT[FOLDER_OF[task]] & 1 for task in masked], axis=0)
        return int((lacks & labelled).sum())

    def __getitem__(self, index: int) -> Sample:
        """A sample from its files.

        :raises DataError: a file that cannot be read, or is not of the expected form
        """
        return self.sample_with(index, self.tasks.names)

    def sample_with(self, index: int, tasks: Collection[str]) -> Sample:
        """A sample of which only some labels are read, and the files that say which of their pixels are valid."""
        if not 0 <= index < len(self):
            raise IndexError(f"taskonomy: there is no view {index} of {len(self)}")
        image = read_rgb(self.path(index, "rgb"))
        self._check_size(index, _dimensions(image))
        # depth may be a label and the mask of others: each file is read once
        read = functools.cache(functools.partial(self.read, index, _dimensions(image)))
        labels = {task: self.label(index, task, read) for task in self.tasks.names if task in tasks}
        return Sample(resize_image(image, self.size), labels)

    def read(self, index: int, own: _Size, domain: str) -> Tensor:
        """What the file of a domain holds, (…, H, W).

        :param own: (H, W) of the view's image file
        """
        path = self.path(index, domain)
        values = self.form.read(domain, path)
        self._check_same_size(path, _dimensions(values), index, own)
        return values

    def label(self, index: int, task: str, read: Callable[[str], Tensor]) -> Tensor:
        """:param read: from a domain that the view has"""
        if not self.has(index, FOLDER_OF[task]):
            return self.blank(task)
        mask = self.form.mask_folder(task)
        valid = read(mask) > 0 if mask and self.has(index, mask) else None
        return self.form.finish(task, read(FOLDER_OF[task]), valid, self.size)

    def blank(self, name: str) -> Tensor:
        task = self.tasks[name]
        if name == "segmentation":
            return torch.full(self.size, int(task.ignored))
        return torch.full((task.channels, *self.size), task.ignored)

    def _check_size(self, index: int, found: _Size) -> None:
        if not self.resizes and found != self.size:
            raise DataError(
                f"{self.path(index, 'rgb')}: {_pixels(found)}, but the first image is {_pixels(self.size)};"
                " with images of several sizes set plugins.taskonomy.size to [height, width]"
            )

    def _check_same_size(self, path: Path, found: _Size, index: int, expected: _Size) -> None:
        if found != expected:
            raise DataError(
                f"{path}: {_pixels(found)}, but its image {self.path(index, 'rgb').name} is {_pixels(expected)};"
                " an image and its labels must be of one size; get the file again"
            )


def _dimensions(values: Tensor) -> _Size:
    return int(values.shape[-2]), int(values.shape[-1])


def _pixels(size: _Size) -> str:
    return f"{size[0]} × {size[1]} pixels"
