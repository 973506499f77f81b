"""Where the images and labels of a split come from.

Shape letters: N images, H and W image size.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs
from torch import Tensor

from mtl_core import DataError

Reader = Callable[[Path], Tensor]


@attrs.frozen
class Wanted:
    """What of a split is asked for.

    :param tasks: names
    :param classes: 13 or 40
    :param normals: a folder of normals, or None for the data's own
    :param plugin: what messages call it
    """

    tasks: tuple[str, ...]
    classes: int
    normals: Path | None
    plugin: str

    def check(self, place: Path, has: Sequence[str]) -> None:
        """:raises DataError: a task of which this form of the data has no label"""
        for task in self.tasks:
            if task not in has:
                raise DataError(
                    f"{place}: no labels of {task} in this form of the data (it has: {', '.join(has)}); leave it out of"
                    f" plugins.{self.plugin}.tasks"
                )


class Source(Protocol):
    """N images with labels, at the files' own sizes."""

    @property
    def names(self) -> Sequence[str]:
        """Of the samples."""

    @property
    def files(self) -> Sequence[Path]:
        """Everything that is read."""

    def image(self, index: int) -> Tensor:
        """uint8 or float (3, H, W)."""

    def label(self, task: str, index: int) -> Tensor:
        """A label as its task defines it."""

    def where(self, index: int, task: str | None = None) -> str:
        """An image, or one of its labels, as messages call it."""


@attrs.frozen
class Folders:
    """A file per image and label.

    :param names: of the images
    :param images: their files
    :param labels: task → a file for each image
    :param read_image: reads an image
    :param read_label: task → what reads its label
    """

    names: Sequence[str]
    images: Sequence[Path]
    labels: Mapping[str, Sequence[Path]]
    read_image: Reader
    read_label: Mapping[str, Reader]

    @property
    def files(self) -> Sequence[Path]:
        return [*self.images, *(path for paths in self.labels.values() for path in paths)]

    def image(self, index: int) -> Tensor:
        return self.read_image(self.images[index])

    def label(self, task: str, index: int) -> Tensor:
        return self.read_label[task](self.labels[task][index])

    def where(self, index: int, task: str | None = None) -> str:
        return str(self.images[index] if task is None else self.labels[task][index])


@attrs.define
class Opened:
    """An HDF5 file, opened once in each process: a handle must not be shared with a forked one.

    :param path: the file
    :param expected: what it has to be, for messages
    """

    path: Path
    expected: str
    _handle: Any = None
    _process: int = 0

    def __call__(self) -> Any:
        if self._process != os.getpid():
            self._handle = open_hdf5(self.path, self.expected)
            self._process = os.getpid()
        return self._handle

    def __getstate__(self) -> tuple[Path, str]:
        return self.path, self.expected

    def __setstate__(self, state: tuple[Path, str]) -> None:
        self.path, self.expected = state
        self._handle = None
        self._process = 0


def open_hdf5(path: Path, expected: str) -> Any:
    """:raises DataError: the file is missing, damaged or of another kind, or h5py is not installed"""
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{path}: needs h5py to be read; pip install 'mtl-nyuv2[hdf5]'") from error
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected {expected}")
    try:
        return h5py.File(path, "r")
    except Exception as error:  # damaged files make HDF5 raise several kinds of error
        raise DataError(
            f"{path}: cannot be read as HDF5 ({first_line(error)}); expected {expected}; copy it again"
        ) from error


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def listed(folder: Path, endings: Sequence[str]) -> list[Path]:
    """The folder's files in the order of the numbers in their names; hidden files are left out."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in endings and not p.name.startswith(".")]
    return sorted(found, key=_in_order)


def _in_order(path: Path) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", path.stem)], path.name


def by_name(folder: Path, endings: Sequence[str], plugin: str) -> dict[str, Path]:
    """Name without ending → file.

    :raises DataError: there is no such folder, or two files have one name
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; expected a file in it for each image; without these labels leave their task out"
            f" of plugins.{plugin}.tasks"
        )
    files: dict[str, Path] = {}
    for path in listed(folder, endings):
        if files.setdefault(path.stem, path) is not path:
            raise DataError(f"{path}: has the name of {files[path.stem].name}; expected one file per name; remove one")
    return files
