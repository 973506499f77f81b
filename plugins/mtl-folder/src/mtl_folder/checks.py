"""What is looked at before the first step: samples against the description, and labels that are never there."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mtl_core import DataError
from mtl_folder.dataset import FolderDataset, Size, line, other_size
from mtl_folder.files import Unfit, pixels, read_raw, size_of
from mtl_folder.find import Item
from mtl_folder.kinds import Dense
from mtl_folder.patterns import Listing


class _Findings:
    """Problems of samples; a mistake of many files is reported once, with their number."""

    def __init__(self) -> None:
        self._first: dict[object, str] = {}
        self._counts: dict[object, int] = {}

    def add(self, like: object, text: str) -> None:
        self._first.setdefault(like, text)
        self._counts[like] = self._counts.get(like, 0) + 1

    @property
    def lines(self) -> list[str]:
        again = {like: f" (and {count - 1} more like it)" for like, count in self._counts.items() if count > 1}
        return [text + again.get(like, "") for like, text in self._first.items()]


def check_splits(splits: Mapping[str, FolderDataset], root: Path, count: int | None) -> list[str]:
    """A line for everything that is not as the description says, or hardly meant.

    :param splits: the data of each split that is looked at
    :param count: samples of each split that are read: the first, and others that are drawn; None reads all
    """
    findings = _Findings()
    for split, dataset in splits.items():
        for index in _chosen(split, len(dataset), count):
            _check_sample(dataset, index, findings)
        _check_labels(split, dataset, root, findings)
    for text in _sizes(splits):
        findings.add(text, text)
    return findings.lines


def _chosen(split: str, size: int, count: int | None) -> Sequence[int]:
    """Positions of the first sample and of others, the same whenever it is asked."""
    if count is None or size <= count:
        return range(size)
    drawn = random.Random(f"{split}/{size}").sample(range(1, size), max(count - 1, 0))
    return sorted([0, *drawn][:count])


def _check_sample(dataset: FolderDataset, index: int, findings: _Findings) -> None:
    """Read one sample, and look at what its files hold."""
    try:
        size = size_of(dataset.image(index))
    except DataError as error:
        findings.add("image", str(error))
        return
    path = dataset.items[index].path
    if not dataset.resizes and size != dataset.size:
        findings.add(
            "size",
            f"{path}: {pixels(size)}; expected {pixels(dataset.size)}, as {dataset.items[0].path.name}; with images of"
            " several sizes set plugins.folder.size to [height, width]",
        )
    for name, files in dataset.sources.files.items():
        label = files[index]
        if label is not None:
            for unfit in _unfit(dataset.description.dense[name], label, path, size):
                findings.add((name, getattr(unfit, "expected", "")), _text(label, name, unfit))


def _text(path: Path, name: str, problem: Unfit | DataError) -> str:
    if isinstance(problem, Unfit):
        return line(path, name, problem)
    return f'{problem} (task "{name}")'


def _unfit(kind: Dense, path: Path, image: Path, size: Size) -> Iterator[Unfit | DataError]:
    """What is wrong with one label file, and what is doubtful in it."""
    if path == image:
        yield Unfit("the image itself", "a label file", "correct files")
        return
    try:
        raw = read_raw(path)
        label = kind.label(raw)
    except (Unfit, DataError) as error:
        yield error
        return
    if size_of(label) != size:
        yield other_size(size_of(label), size)
    yield from kind.doubts(raw, label)


def _check_labels(split: str, dataset: FolderDataset, root: Path, findings: _Findings) -> None:
    """Tasks that no image of a split has a label of; labels per image that are hardly meant."""
    lacking = [name for name in dataset.tasks.names if not _has_any(dataset, name)]
    needed = lacking if split == "train" or len(lacking) == len(dataset.tasks) else []
    for name in needed:
        findings.add((split, name), f'{split}: task "{name}": {_no_label(dataset, name, root)}')
    for name, labels in dataset.sources.labels.items():
        known = [label for label in labels if label is not None]
        kind = dataset.description.per_image[name]
        for unfit in kind.doubts(known) if known and split == "train" else ():
            findings.add((name, unfit.expected), line(split, name, unfit))


def _has_any(dataset: FolderDataset, name: str) -> bool:
    return any(label is not None for label in dataset.sources.of(name))


def _no_label(dataset: FolderDataset, name: str, root: Path) -> str:
    head = f"none of the {len(dataset)} images has a label"
    kind = dataset.description.tasks[name]
    if not isinstance(kind, Dense):
        return f"{head}; expected some; are cells of column {kind.column} filled in rows of this split?"
    wanted = root / kind.pattern.shown(dataset.items[0].values)
    return f"{head}; expected files such as {wanted}{_instead(kind, wanted, dataset.items[0])}"


def _instead(kind: Dense, wanted: Path, item: Item) -> str:
    """What is in the folder where the label of an image was expected."""
    folder = wanted.parent
    if not folder.is_dir():
        return f"; there is no folder {folder}: correct files"
    files = list(Listing()[folder].files)
    if not files:
        return f"; {folder} has no files"
    name = item.values.get("name", item.name)
    near = next((file for file in files if name in file), None)
    if near is None:
        return f"; {folder.name} has {len(files)} files, such as {files[0]}: correct files"
    pattern = kind.pattern.text.rpartition("/")[0]
    return f'; there is {near}: files = "{pattern}/{near.replace(name, "{name}", 1)}"'.replace('"/', '"')


def _sizes(splits: Mapping[str, FolderDataset]) -> Iterator[str]:
    """Splits whose images differ in size from those of the first one."""
    first = next(iter(splits.values()))
    for dataset in splits.values():
        if dataset.size != first.size:
            yield (
                f"{dataset.items[0].path}: {pixels(dataset.size)}; expected {pixels(first.size)}, as"
                f" {first.items[0].path}; set plugins.folder.size to [height, width]"
            )
