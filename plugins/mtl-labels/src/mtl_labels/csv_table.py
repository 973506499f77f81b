"""Splits as ``.csv``: a row per sample, by index or by name.

Shape letters: N samples, M columns.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

import torch

from mtl_core import DataError, nearest
from mtl_labels.split import Split

_VALUES = {"1": 1.0, "1.0": 1.0, "true": 1.0, "yes": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0, "no": 0.0, "": 0.0}

_Line = tuple[int, list[str]]


def read_csv(path: Path, size: int, names: Sequence[str] | None) -> Split:
    """The split that a table holds.

    :param size: N
    :param names: the samples' names, for a file with rows by name; a row may give a name with a file's ending
    :raises DataError: the table is malformed; the message has the line
    """
    (_, (key, *columns)), *lines = _read_lines(path)
    _check_header(path, key, columns)
    places = {str(i): i for i in range(size)} if key == "index" else _by_name(path, names)
    rows: dict[int, list[float]] = {}
    for number, (name, *cells) in lines:
        sample = _place(path, number, name, places)
        if sample in rows:
            raise DataError(f"{path}: line {number}: a second row for {name!r}; expected one row per sample")
        rows[sample] = _values(path, number, cells, len(columns))
    _check_complete(path, rows, places)
    return Split(torch.tensor([rows[i] for i in range(size)], dtype=torch.float64).view(size, -1), tuple(columns))


def _read_lines(path: Path) -> list[_Line]:
    """Cells without blanks around them, with the numbers of their lines; empty lines are left out."""
    lines: list[_Line] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            for row in reader:
                if any(row):
                    lines.append((reader.line_num, [cell.strip() for cell in row]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as text ({error}); expected a .csv file in UTF-8") from error
    return lines or [(1, [""])]


def _check_header(path: Path, key: str, columns: list[str]) -> None:
    if key not in ("index", "name"):
        raise DataError(f"{path}: line 1: expected a header: index or name, then the tasks; found {key!r} first")
    if not columns or len(set(columns)) < len(columns):
        raise DataError(f"{path}: line 1: expected a column for each task and none twice, found {', '.join(columns)}")


def _by_name(path: Path, names: Sequence[str] | None) -> dict[str, int]:
    if names is None:
        raise DataError(
            f"{path}: its rows are by name, but the data set gives its samples no names; use a column index (0, 1, …)"
        )
    places = {name: i for i, name in enumerate(names)}
    if len(places) < len(names):
        twice = next(name for i, name in enumerate(names) if places[name] != i)
        raise DataError(
            f"{path}: its rows are by name, but the data set has two samples of the name {twice!r};"
            " use a column index (0, 1, …)"
        )
    return places


def _place(path: Path, line: int, name: str, places: Mapping[str, int]) -> int:
    for written in (name, PurePath(name).stem):
        if written in places:
            return places[written]
    example = next(iter(places), "none")
    raise DataError(
        f"{path}: line {line}: no training sample {name!r}{nearest(name, places)} ({len(places)} samples, the first is"
        f" {example!r})"
    )


def _values(path: Path, line: int, cells: list[str], columns: int) -> list[float]:
    wrong = [cell for cell in cells if cell.lower() not in _VALUES]
    if wrong or len(cells) != columns:
        found = f"{wrong[0]!r}" if wrong else f"{len(cells)} of them"
        raise DataError(f"{path}: line {line}: expected {columns} cells of 0 or 1, found {found}")
    return [_VALUES[cell.lower()] for cell in cells]


def _check_complete(path: Path, rows: Mapping[int, list[float]], places: Mapping[str, int]) -> None:
    missing = [name for name, i in places.items() if i not in rows]
    if missing:
        raise DataError(
            f"{path}: {len(rows)} of {len(places)} training samples have a row; there is none for {missing[0]!r};"
            " give every sample a row (0 in each cell for one without labels)"
        )
