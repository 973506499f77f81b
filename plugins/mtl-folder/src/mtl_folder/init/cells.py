"""Guesses of what the columns of a CSV hold."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path

import attrs

from mtl_core import DataError
from mtl_folder.find import Item, Keys
from mtl_folder.init.groups import SPLIT_OF
from mtl_folder.init.write import Entry, Line
from mtl_folder.kinds.per_image import MISSING
from mtl_folder.patterns import SPLIT
from mtl_folder.table import Table, read_table

_FEW = 10
"""Different whole numbers that are rather classes than values."""
_MOST = 1000
"""Most classes."""


@attrs.frozen
class Sheet:
    """A CSV whose rows name images.

    :param file: its path, with ``{split}`` where there is one for each split
    :param key: the column that names the image
    :param hits: rows that name an image
    :param splits: split → what stands for ``{split}``
    """

    file: str
    tables: tuple[Table, ...]
    key: str
    hits: int
    splits: dict[str, str]

    @property
    def rows(self) -> int:
        return sum(len(table.rows) for table in self.tables)

    def column(self, name: str) -> list[str]:
        return [cell for table in self.tables for cell in table.column(name)]

    @property
    def columns(self) -> list[str]:
        """Those that every table has, without the key."""
        return [
            name for name in self.tables[0].columns if name != self.key and all(name in t.columns for t in self.tables)
        ]


def find_sheets(root: Path, files: Sequence[Path], items: Sequence[Item]) -> list[Sheet]:
    """The CSV files whose rows name images, those with most rows first."""
    keys = Keys(root, items)
    families: dict[str, list[tuple[str | None, Table]]] = {}
    for path in files:
        try:
            table = read_table(path)
        except DataError:
            continue
        text = path.relative_to(root).as_posix()
        split = next((word for word in SPLIT_OF if re.search(rf"(?<![a-z]){word}(?![a-z])", text.lower())), None)
        found = re.search(rf"(?<![a-z]){split}(?![a-z])", text.lower()) if split else None
        name = f"{text[: found.start()]}{{{SPLIT}}}{text[found.end() :]}" if found else text
        families.setdefault(name, []).append((text[found.start() : found.end()] if found else None, table))
    sheets = [_sheet(name, members, keys) for name, members in families.items()]
    return sorted((sheet for sheet in sheets if sheet is not None), key=lambda sheet: -sheet.hits)


def _sheet(name: str, members: Sequence[tuple[str | None, Table]], keys: Keys) -> Sheet | None:
    tables = tuple(table for _, table in members)
    counts: dict[str, int] = {}
    for column in tables[0].columns:
        if all(column in table.columns for table in tables):
            cells = [cell for table in tables for cell in table.column(column)]
            counts[column] = sum(keys.get(cell) is not None for cell in cells)
    key = max(counts, key=lambda column: counts[column], default="")
    if not key or counts[key] == 0:
        return None
    splits = {SPLIT_OF[text.lower()]: text for text, _ in members if text is not None}
    return Sheet(name, tables, key, counts[key], splits)


def split_column(sheet: Sheet) -> tuple[str, dict[str, str]] | None:
    """The column that names each image's split, and the cell of each split."""
    for name in sheet.columns:
        cells = {cell for cell in sheet.column(name) if cell}
        if len(cells) > 1 and all(cell.lower() in SPLIT_OF for cell in cells):
            return name, {SPLIT_OF[cell.lower()]: cell for cell in sorted(cells)}
    return None


def guess(sheet: Sheet, column: str) -> Entry | str:
    """A task of one column, or why it is none."""
    cells = sheet.column(column)
    known = [cell for cell in cells if cell and cell.lower() not in MISSING]
    if len(set(known)) < 2:
        return "one value only" if known else "empty"
    written = sorted({cell for cell in cells if cell and cell.lower() in MISSING})
    lines = [Line("ignored", written if len(written) > 1 else written[0], "cells without a label")] if written else []
    decimal = "," if any(re.fullmatch(r"[+-]?\d+,\d+", cell) for cell in known) else "."
    numbers = [_number(cell, decimal) for cell in known]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", column).strip("-").lower() or "values"
    values = [value for value in numbers if value is not None]
    if len(values) == len(known) and not (len(set(known)) <= _FEW and all(value == round(value) for value in values)):
        return _values(name, column, values, decimal, len(cells), lines)
    return _classes(name, column, known, len(cells), lines)


def _values(name: str, column: str, values: list[float], decimal: str, rows: int, lines: list[Line]) -> Entry | str:
    deviation = statistics.pstdev(values)
    if all(value == round(value) for value in values) and len(set(values)) == len(values) == rows and "id" in name:
        return "a number of its own for every image"
    comma = [Line("decimal", ",")] if decimal == "," else []
    note = f"{len(values)} of {rows} rows, {min(values):.4g} to {max(values):.4g}"
    return Entry(
        name,
        [
            Line("kind", "image-regression", note),
            Line("column", column),
            *comma,
            *lines,
            Line("mean", _rounded(statistics.fmean(values)), "the head learns (value - mean) / deviation"),
            Line("deviation", _rounded(deviation)),
        ],
    )


def _classes(name: str, column: str, known: list[str], rows: int, lines: list[Line]) -> Entry | str:
    distinct = sorted(set(known), key=lambda cell: (_number(cell, ".") is None, _number(cell, ".") or 0.0, cell))
    if len(distinct) > min(_MOST, max(2, 0.5 * len(known))):
        return f"{len(distinct)} different texts in {len(known)} rows"
    note = f"{len(known)} of {rows} rows, {len(distinct)} classes"
    return Entry(
        name, [Line("kind", "classification", note), Line("column", column), *lines, Line("classes", distinct)]
    )


def _number(cell: str, decimal: str) -> float | None:
    try:
        return float(cell.replace(",", ".") if decimal == "," else cell)
    except ValueError:
        return None


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
