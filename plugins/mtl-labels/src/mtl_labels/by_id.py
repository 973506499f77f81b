"""Splits that go by the images' names: those that MTPSL and DiffusionMTL publish for PASCAL-Context.

Shape letters: N samples, M columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtl_core import DataError, nearest
from mtl_labels.split import Split

PUBLISHED = ("semseg", "human_parts", "sal", "normals", "edge")
"""The tasks of DiffusionMTL's rows, in their order; MTPSL's lists have these names too."""

OURS = {"semseg": "segmentation", "human_parts": "parts", "sal": "saliency", "edge": "edges"}
"""Published name of a task → the data set's. The others have one name."""

LISTS = "a pickled dict of tasks with a list of names each, as MTPSL publishes"
ROWS = f"a dict of names with a row of 0 and 1 each ({', '.join(PUBLISHED)}), as DiffusionMTL publishes"


def from_lists(path: Path, found: Any, names: Sequence[str] | None) -> Split:
    """Which names carry which task's label.

    :param found: task → names
    :raises DataError: the file has another form, or names that the data set does not have
    """
    if not _is_lists(found):
        raise DataError(f"{path}: holds {_described(found)}; expected {LISTS}")
    rows = _places(path, names)
    table = torch.zeros(len(rows), len(found), dtype=torch.float64)
    for column, labelled in enumerate(found.values()):
        for name in labelled:
            table[_row_of(path, name, rows), column] = 1
    return Split(table, _ours(found))


def from_rows(path: Path, found: Mapping[str, Sequence[float]], names: Sequence[str] | None) -> Split:
    """A row for each name, in the published order of the tasks.

    :raises DataError: a row is missing or of another length, or its name is none of the data set's
    """
    rows = _places(path, names)
    table = torch.full((len(rows), len(PUBLISHED)), torch.nan, dtype=torch.float64)
    for name, values in found.items():
        if len(values) != len(PUBLISHED):
            raise DataError(f"{path}: {len(values)} values for {name!r}; expected {ROWS}")
        table[_row_of(path, name, rows)] = torch.tensor(list(values), dtype=torch.float64)
    _check_complete(path, table, rows)
    return Split(table, _ours(PUBLISHED))


def _is_lists(found: Any) -> bool:
    """Whether it has the form of :func:`from_lists`."""
    if not isinstance(found, dict) or not found or not all(isinstance(task, str) for task in found):
        return False
    return all(isinstance(v, list | tuple) and all(isinstance(name, str) for name in v) for v in found.values())


def is_rows(found: Any) -> bool:
    """Whether it has the form of :func:`from_rows`."""
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found):
        return False
    return all(isinstance(v, list | tuple) and all(isinstance(x, int | float) for x in v) for v in found.values())


def _ours(tasks: Sequence[str] | Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(OURS.get(task, task) for task in tasks)


def _places(path: Path, names: Sequence[str] | None) -> dict[str, int]:
    if names is None:
        raise DataError(f"{path}: goes by names, but the data set gives its samples none; use a split by index")
    return {name: row for row, name in enumerate(names)}


def _row_of(path: Path, name: str, rows: Mapping[str, int]) -> int:
    if name not in rows:
        example = next(iter(rows), "none")
        raise DataError(
            f"{path}: no training sample {name!r}{nearest(name, rows)} ({len(rows)} samples, the first is {example!r});"
            " use the split of this data set"
        )
    return rows[name]


def _check_complete(path: Path, table: Tensor, rows: Mapping[str, int]) -> None:
    missing = [name for name, row in rows.items() if bool(table[row].isnan().any())]
    if missing:
        raise DataError(
            f"{path}: {len(rows) - len(missing)} of {len(rows)} training samples have a row; there is none for"
            f" {missing[0]!r}; use the split of this data set"
        )


def _described(found: Any) -> str:
    if not isinstance(found, dict):
        return f"a {type(found).__name__}"
    return f"a dict with {', '.join(repr(key)[:40] for key in list(found)[:5])}" if found else "an empty dict"
