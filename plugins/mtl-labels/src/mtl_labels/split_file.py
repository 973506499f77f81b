"""Published or home-made splits: which sample carries which label, from a file.

Shape letters: N samples, K tasks, M columns of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import field
from attrs.validators import min_len
from torch import Tensor

from mtl_core import DataError, Tasks, help, hookimpl, nearest, plugin
from mtl_labels.arrays import LARGEST, read_array
from mtl_labels.csv_table import read_csv


def distinct(instance: object, attribute: Any, value: tuple[str, ...]) -> None:
    if len(set(value)) < len(value):
        raise ValueError(f"expected every column once, found {list(value)}")


@plugin
class SplitFile:
    """The label mask of a file: ``.pth`` with ``labels_weights`` (the published splits), ``.npy``, ``.npz``, ``.csv``.

    The splits of PASCAL-Context that MTPSL (``.npy``) and DiffusionMTL (``.pth``) publish go by the images' names; they
    are pickles, and are read without running anything in them.

    A ``.csv`` has a header: ``index`` or ``name`` first, then the tasks; one row per sample, 1 where it has the label.
    A ``.npz`` is the ``labels.npz`` of another run.
    """

    path: str = field(validator=min_len(1), metadata=help("the file"))
    columns: tuple[str, ...] = field(
        default=(),
        validator=distinct,
        metadata=help("task of each column of a .pth or .npy; empty: the data set's tasks in their order"),
    )

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks, names: Sequence[str] | None) -> Tensor:
        return read_split(self.path, self.columns, size, tasks, names)


def read_split(source: str, columns: Sequence[str], size: int, tasks: Tasks, names: Sequence[str] | None) -> Tensor:
    """The label mask that a file holds.

    :param columns: tasks of the file's columns where it does not name them itself; empty: those of ``tasks``
    :return: bool (N, K), columns in the order of ``tasks``
    :raises DataError: the file is missing or malformed, or is not for these samples and tasks
    """
    path = _checked_path(source)
    read = read_csv(path, size, names) if path.suffix.lower() == ".csv" else read_array(path, names)
    found = read.columns or tuple(columns) or tasks.names
    if read.columns and columns and tuple(columns) != read.columns:
        raise DataError(
            f"{path}: names its columns itself ({', '.join(read.columns)}), but columns = {list(columns)};"
            " leave columns out"
        )
    table = _checked_table(path, read.table, size, found)
    return table[:, [_position(path, found, task) for task in tasks.names]] > 0


def _checked_path(source: str) -> Path:
    try:
        path = Path(source).expanduser()
        if path.is_dir():
            raise DataError(
                f"{path}: a folder; set the path of the split to one of its files (.pth, .npy, .npz or .csv)"
            )
        if path.is_file():
            return _not_too_large(path)
        found = "no file, but something else" if path.exists() else "no such file"
    except (OSError, RuntimeError, ValueError) as error:  # too long, a home folder that is not known
        raise DataError(f"{source[:200]}: no path of a file ({error}); set the path of the split to a file") from error
    raise DataError(f"{path}: {found}; set the path of the split to a .pth, .npy, .npz or .csv file")


def _not_too_large(path: Path) -> Path:
    gigabytes = path.stat().st_size / LARGEST
    if gigabytes > 1:
        raise DataError(f"{path}: has {gigabytes:.1f} GiB, which no split has; set the path of the split to its file")
    return path


def _checked_table(path: Path, table: Tensor, size: int, columns: Sequence[str]) -> Tensor:
    """The table as float64, (N, M) with zeros and ones."""
    if tuple(table.shape) != (size, len(columns)):
        raise DataError(
            f"{path}: split of shape {tuple(table.shape)}, expected ({size}, {len(columns)}): a row per training sample"
            f" and a column for each of {', '.join(columns)}; use the split of this data set, or say in columns which"
            " tasks the file has"
        )
    table = table.to(torch.float64)
    if not bool(((table == 0) | (table == 1)).all()):
        raise DataError(f"{path}: values from {table.min():g} to {table.max():g}, expected only 0 and 1")
    return table


def _position(path: Path, columns: Sequence[str], task: str) -> int:
    if task not in columns:
        raise DataError(
            f"{path}: no column for the task {task!r}{nearest(task, columns)} (columns: {', '.join(columns)});"
            " put it in, or leave the task out of the experiment"
        )
    return list(columns).index(task)
