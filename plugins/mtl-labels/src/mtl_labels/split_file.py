"""Published or home-made splits: which sample carries which label, from a file.

Shape letters: N samples, K tasks.
"""

from __future__ import annotations

import csv
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from attrs import field
from attrs.validators import min_len
from torch import Tensor

from mtl_core.errors import DataError, nearest
from mtl_core.plugin import help, hookimpl, plugin
from mtl_core.tasks import Tasks

TRUE, FALSE = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no", ""}


@plugin
class SplitFile:
    """The label mask of a file: ``.pth`` with ``labels_weights`` (the published splits), ``.npy``, or ``.csv``.

    A ``.csv`` has a header: ``index`` or ``name`` first, then the tasks; one row per sample, 1 where it has the label.
    """

    path: str = field(validator=min_len(1), metadata=help("the file"))
    columns: tuple[str, ...] = field(
        default=(), metadata=help("task of each column of a .pth or .npy; empty: the data set's order")
    )

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks, names: Sequence[str] | None) -> Tensor:
        path = Path(self.path)
        if not path.is_file():
            raise DataError(f"{path}: no such split file; set split-file.path to a .pth, .npy or .csv file")
        if path.suffix == ".csv":
            return from_csv(path, size, tasks, names)
        table = read_table(path)
        columns = self.columns or tasks.names
        check_shape(path, table, size, columns)
        return table[:, [position(path, columns, task) for task in tasks.names]] > 0


def read_table(path: Path) -> Tensor:
    """A (N, K) table of 0 and 1."""
    try:
        if path.suffix == ".npy":
            return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float64))
        if path.suffix in (".pth", ".pt"):
            return torch.as_tensor(torch.load(path, weights_only=True)["labels_weights"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        expected = 'a dict with "labels_weights" (N, K)' if path.suffix != ".npy" else "a (N, K) array of numbers"
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"{path}: cannot be read as a split ({type(error).__name__}: {reason}); expected {expected}"
        ) from error
    raise DataError(f"{path}: split files end in .pth, .npy or .csv, found {path.suffix!r}")


def check_shape(path: Path, table: Tensor, size: int, columns: Sequence[str]) -> None:
    if tuple(table.shape) != (size, len(columns)):
        raise DataError(
            f"{path}: split of shape {tuple(table.shape)}, expected ({size}, {len(columns)}): one row per training sample,"
            f" one column for each of {', '.join(columns)}; is it another data set's, or is split-file.columns missing?"
        )
    if not bool(((table == 0) | (table == 1)).all()):
        raise DataError(f"{path}: expected only 0 and 1, found values from {table.min():g} to {table.max():g}")


def position(path: Path, columns: Sequence[str], task: str) -> int:
    if task not in columns:
        raise DataError(f"{path}: no column for task {task!r}{nearest(task, columns)} (columns: {', '.join(columns)})")
    return list(columns).index(task)


def from_csv(path: Path, size: int, tasks: Tasks, names: Sequence[str] | None) -> Tensor:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row]
    key, *columns = [cell.strip() for cell in rows[0]] if rows else [""]
    if key not in ("index", "name"):
        raise DataError(f"{path}: line 1: expected a header that begins with index or name, found {key!r}")
    places = {str(i): i for i in range(size)} if key == "index" else by_name(path, names)
    order = [position(path, columns, task) for task in tasks.names]
    mask, seen = torch.zeros(size, len(tasks), dtype=torch.bool), set[int]()
    for line, row in enumerate(rows[1:], 2):
        sample, values = parse(path, line, row, places, len(columns))
        mask[sample] = torch.tensor([values[column] for column in order])
        seen.add(sample)
    if len(seen) != size:
        missing = next(name for name, i in places.items() if i not in seen)
        raise DataError(f"{path}: {len(seen)} of {size} training samples have a row; missing for example {missing!r}")
    return mask


def by_name(path: Path, names: Sequence[str] | None) -> dict[str, int]:
    if names is None:
        raise DataError(f"{path}: rows are by name, but the data set gives its samples no names; use a column index")
    return {name: i for i, name in enumerate(names)}


def parse(path: Path, line: int, row: list[str], places: dict[str, int], columns: int) -> tuple[int, list[bool]]:
    name, *cells = [cell.strip() for cell in row]
    if name not in places:
        raise DataError(f"{path}: line {line}: no training sample {name!r}{nearest(name, places)}")
    wrong = [cell for cell in cells if cell.lower() not in TRUE | FALSE]
    if wrong or len(cells) != columns:
        found = f"{wrong[0]!r}" if wrong else f"{len(cells)} cells"
        raise DataError(f"{path}: line {line}: expected {columns} cells of 0 or 1, found {found}")
    return places[name], [cell.lower() in TRUE for cell in cells]
