"""AdaShare's tree: MTAN's arrays anywhere under the root, listed in ``cityscape.json``.

split → rows of five paths: image, depth, labels of 2, 7 and 19 classes (sunxm2357/AdaShare,
``dataloaders/cityscapes_dataloader.py``).
"""

from __future__ import annotations

import json
from pathlib import Path

from mtl_cityscapes.files import Files
from mtl_cityscapes.mtan import check_has, form
from mtl_core import DataError

LIST = "cityscape.json"
_SPLITS = {"train": ("train",), "val": ("test", "val")}
"""Folder of a split in the other trees → its name here; the first that is there is read."""
_DEPTH = 1
_LABELS = {7: 3, 19: 4}
"""Columns."""


def find(root: Path, split: str, tasks: tuple[str, ...], classes: int, metric: bool) -> Files | None:
    """The files of a split, or None where the root is not of this form.

    :raises DataError: the list is damaged, or the arrays lack what is asked for
    """
    path = root / LIST
    if not path.is_file():
        return None
    check_has(root, tasks, metric)
    rows = _rows_of(path, split)
    names = [row[0].removesuffix(".npy") for row in rows]
    if len(set(names)) < len(names):
        raise DataError(f"{path}: an image is listed twice; expected every image once; copy it again")
    columns = {"segmentation": _LABELS[classes], "depth": _DEPTH}
    labels = {task: _existing(root, path, task, [row[columns[task]] for row in rows]) for task in tasks}
    return Files(form(classes), names, [root / row[0] for row in rows], labels)


def _rows_of(path: Path, split: str) -> list[list[str]]:
    expected = 'expected {"train": [[image, depth, label2, label7, label19], …], "test": …}'
    try:
        lists = json.loads(path.read_text("utf-8"))
        rows = next(lists[name] for name in _SPLITS[split] if name in lists)
        checked = [[str(cell) for cell in row] for row in rows]
    except StopIteration as error:
        raise DataError(f"{path}: no list {_SPLITS[split][0]!r}; {expected}; copy it again") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: cannot be read as a list ({error}); {expected}; copy it again") from error
    if not checked or any(len(row) != 5 for row in checked):
        raise DataError(f"{path}: rows of {sorted({len(row) for row in checked})} paths; {expected}; copy it again")
    return checked


def _existing(root: Path, path: Path, task: str, cells: list[str]) -> list[Path | None]:
    """The file of each image, None where it is not there."""
    found = [root / cell if (root / cell).is_file() else None for cell in cells]
    if not any(found):
        raise DataError(
            f"{path}: none of the files of the task {task!r} is there (the first: {root / cells[0]}); set"
            " plugins.cityscapes.root to the folder that the list's paths begin in, or leave the task out"
        )
    return found
