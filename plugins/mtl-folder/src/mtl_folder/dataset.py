"""One split of a folder.

Shape letters: N images, K tasks, H and W image size.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from mtl_core import DataError, Sample, Tasks
from mtl_data import resize_image
from mtl_folder.description import Description
from mtl_folder.files import Unfit, pixels, read_image, read_raw, size_of
from mtl_folder.find import Item
from mtl_folder.kinds import Dense, PerImage
from mtl_folder.kinds.base import as_tuple
from mtl_folder.kinds.per_image import is_placeholder
from mtl_folder.patterns import Listing

Size = tuple[int, int]


@attrs.frozen(eq=False)
class Sources:
    """Where the labels of a split come from, for each task; None where an image has none.

    :param files: task with a file per image → its files
    :param labels: task per image → its labels
    """

    files: dict[str, list[Path | None]]
    labels: dict[str, list[Tensor | None]]

    def of(self, name: str) -> Sequence[object | None]:
        """The files or labels of one task."""
        return self.files[name] if name in self.files else self.labels[name]

    def labelled(self, tasks: Tasks, size: int) -> Tensor | None:
        """The data set's own label mask, bool (N, K); None where every label is there."""
        mask = torch.zeros(size, len(tasks), dtype=torch.bool)
        for k, name in enumerate(tasks.names):
            mask[:, k] = torch.tensor([label is not None for label in self.of(name)])
        return None if mask.all() else mask


class FolderDataset:
    """One split of N images.

    :param items: its images
    :param sources: its labels
    :param size: (H, W) that everything is resized to, or None for the files' own
    :raises DataError: the first image cannot be read
    """

    def __init__(
        self, description: Description, items: Sequence[Item], sources: Sources, size: Size | None = None
    ) -> None:
        self.description = description
        self.items = items
        self.sources = sources
        self.resizes = size is not None
        self.tasks = Tasks([kind.task(name) for name, kind in description.tasks.items()])
        self.names: Sequence[str] | None = [item.name for item in items]
        self.labelled = sources.labelled(self.tasks, len(items))
        self.size = size or size_of(self.image(0))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        return self.sample_with(index, self.tasks.names)

    def sample_with(self, index: int, tasks: Collection[str]) -> Sample:
        """A sample of which only some labels are read."""
        if not 0 <= index < len(self):
            raise IndexError(f"folder: there is no image {index} of {len(self)}")
        image = self.image(index)
        self._check_size(index, size_of(image))
        targets = {name: self._target(name, index, size_of(image)) for name in self.tasks.names if name in tasks}
        return Sample(resize_image(image, self.size), targets)

    def image(self, index: int) -> Tensor:
        """An image at its own size.

        :raises DataError: it cannot be read, or its values are no image's
        """
        path = self.items[index].path
        try:
            return read_image(path, self.description.image_range)
        except Unfit as unfit:
            raise DataError(f"{path}: {unfit}") from None

    def _check_size(self, index: int, found: Size) -> None:
        if not self.resizes and found != self.size:
            raise DataError(
                f"{self.items[index].path}: {pixels(found)}; expected {pixels(self.size)}, as"
                f" {self.items[0].path.name}; with images of several sizes set plugins.folder.size to [height, width]"
            )

    def _target(self, name: str, index: int, image: Size) -> Tensor:
        kind = self.description.tasks[name]
        if isinstance(kind, PerImage):
            label = self.sources.labels[name][index]
            return kind.blank() if label is None else label.clone()
        path = self.sources.files[name][index]
        if path is None:
            return kind.blank(self.size)
        return kind.resized(_read_label(name, kind, path, image), self.size)


def _read_label(name: str, kind: Dense, path: Path, image: Size | None = None) -> Tensor:
    """A label of one task from its file, at the file's size.

    :param image: (H, W) of its image, None where that does not matter
    :raises DataError: the file cannot be read, or is not what the description says
    """
    try:
        label = kind.label(read_raw(path))
        if image is not None and size_of(label) != image:
            raise other_size(size_of(label), image)
    except Unfit as unfit:
        raise DataError(line(path, name, unfit)) from None
    return label


def other_size(found: Size, image: Size) -> Unfit:
    if found == image[::-1]:
        remedy = "one of the two lies on its side: turn it (cameras note that in the file and do not turn the pixels)"
    else:
        remedy = "resize one of the two, classes and distances by nearest neighbour"
    return Unfit(pixels(found), f"{pixels(image)}, as its image", remedy)


def line(where: object, task: str, unfit: Unfit) -> str:
    """One problem of a task's label."""
    return f'{where}: task "{task}": {unfit}'


def find_files(
    root: Path, kinds: Mapping[str, Dense], items: Sequence[Item], listing: Listing
) -> tuple[dict[str, list[Path | None]], list[str]]:
    """The label files of a split for each task, and what is wrong with them."""
    found: dict[str, list[Path | None]] = {name: [] for name in kinds}
    problems = []
    for name, kind in kinds.items():
        for item in items:
            files = kind.pattern.files(root, item.values, listing)
            found[name].append(files[0] if files else None)
            if len(files) > 1:
                names = ", ".join(file.name for file in files)
                problems.append(f'{files[0].parent}: task "{name}": {names}; expected one file per name; remove one')
    return found, problems


def read_cells(
    kinds: Mapping[str, PerImage], items: Sequence[Item]
) -> tuple[dict[str, list[Tensor | None]], list[str]]:
    """The labels of a split for each task per image, and what is wrong with them."""
    found: dict[str, list[Tensor | None]] = {name: [] for name in kinds}
    problems = []
    for name, kind in kinds.items():
        for item in items:
            try:
                cells = cells_of(kind, item)
                found[name].append(None if cells is None else kind.label(cells))
            except Unfit as unfit:
                problems.append(line(item.row or item.path, name, unfit))
                found[name].append(None)
    return found, problems


def cells_of(kind: PerImage, item: Item) -> list[str] | None:
    """What an image's row and path have for a task; None without a row."""
    if kind.columns and item.row is None:
        return None
    row = {} if item.row is None else item.row.cells
    return [item.values[name[1:-1]] if is_placeholder(name) else row[name] for name in as_tuple(kind.column)]
