"""From a folder to its data sets."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from mtl_core import DataError, nearest
from mtl_folder.checks import check_splits
from mtl_folder.dataset import FolderDataset, Size, Sources, cells_of, find_files, read_cells
from mtl_folder.description import Description, load_description, report
from mtl_folder.files import Unfit
from mtl_folder.find import Finder, Item, Problems

_log = logging.getLogger("mtl")


@attrs.frozen(eq=False)
class FolderData:
    """Every split of a folder.

    :param source: the description's file, if there is one
    """

    root: Path
    source: Path
    description: Description
    splits: dict[str, FolderDataset]

    def __getitem__(self, split: str) -> FolderDataset:
        """One split.

        :raises DataError: the description has no such split
        """
        if split not in self.splits:
            has = ", ".join(self.splits)
            raise DataError(
                f"{self.root}: there is no split {split!r}{nearest(split, self.splits)} (there are: {has}); describe it"
                f' in [splits], as in {split} = 0.2, {split} = "FOLDER" or {split} = "{split}.txt"'
            )
        return self.splits[split]

    def check(self, splits: Iterable[str], count: int | None) -> None:
        """Look at samples of some splits.

        :param count: samples of each split; None: all
        :raises DataError: with everything that is not as the description says
        """
        looked_at = {split: self[split] for split in splits}
        if problems := check_splits(looked_at, self.root, count):
            raise report(self.root, problems)
        for text in _gaps(looked_at):
            _log.warning(text)

    def files(self, split: str) -> list[Path]:
        """Everything that the samples of a split are made of."""
        dataset = self[split]
        labels = [path for paths in dataset.sources.files.values() for path in paths if path is not None]
        tables = {item.row.path for item in dataset.items if item.row is not None}
        described = [self.source] if self.source.is_file() else []
        return [*(item.path for item in dataset.items), *labels, *sorted(tables), *described]


def open_folder(root: Path, file: str, given: Mapping[str, Any], size: Size | None) -> FolderData:
    """Find the images and labels of every split.

    :param file: the description, below ``root``
    :param given: tables of the experiment
    :param size: (H, W) that everything is resized to
    :raises DataError: with everything that is wrong with the description, or with what it names
    """
    described = load_description(root, file, given)
    finder = Finder(root, described)
    items = finder.splits()
    problems = Problems()
    description = _completed(described, items, problems)
    sources = _find_sources(finder, description, items, problems)
    splits = dict[str, FolderDataset]()
    for split in items:
        try:
            splits[split] = FolderDataset(description, items[split], sources[split], size)
        except DataError as error:
            problems.add(str(error))
    if problems.found:
        raise report(root, problems.found)
    return FolderData(root, root / file, description, splits)


def _completed(description: Description, items: Mapping[str, Sequence[Item]], problems: Problems) -> Description:
    """The description with the classes that the cells contain."""
    every = [item for found in items.values() for item in found]
    tasks = dict(description.tasks)
    for name, kind in description.per_image.items():
        rows = [cells_of(kind, item) for item in every]
        try:
            tasks[name] = kind.completed([cell for row in rows if row is not None for cell in row])
        except Unfit as unfit:
            problems.add(f"tasks.{name}.column: {unfit}")
    return attrs.evolve(description, tasks=tasks)


def _find_sources(
    finder: Finder, description: Description, items: Mapping[str, Sequence[Item]], problems: Problems
) -> dict[str, Sources]:
    """Where the labels of every split come from."""
    sources = dict[str, Sources]()
    wrong_files = list[str]()
    wrong_cells = list[str]()
    for split, found in items.items():
        files, several = find_files(finder.root, description.dense, found, finder.listing)
        labels, cells = read_cells(description.per_image, found)
        sources[split] = Sources(files, labels)
        wrong_files += several
        wrong_cells += cells
    problems.add_some(wrong_files)
    problems.add_some(wrong_cells)
    return sources


def _gaps(splits: Mapping[str, FolderDataset]) -> Iterator[str]:
    """Tasks that a split has no label of, which may be meant."""
    for split, dataset in splits.items():
        if dataset.labelled is None:
            continue
        for k, name in enumerate(dataset.tasks.names):
            if not dataset.labelled[:, k].any():
                yield f'folder: no image of the {split} split has a label of task "{name}"; its metrics will be empty'
