"""CSV files of labels: a row per image."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import attrs

from mtl_core import DataError

_DELIMITERS = (",", ";", "\t", "|")


@attrs.frozen
class Row:
    """One row of a file.

    :param line: number of its line in the file, from 1
    :param cells: column → text without spaces around it
    """

    path: Path
    line: int
    cells: dict[str, str]

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}"


@attrs.frozen
class Table:
    """A CSV file."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def column(self, name: str) -> list[str]:
        return [row.cells[name] for row in self.rows]


def read_table(path: Path) -> Table:
    """Read a CSV file with a header; commas, semicolons, tabs or bars between cells.

    :raises DataError: the file is missing, no text, empty, or its rows do not fit the header
    """
    text = _text(path)
    header = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    try:
        lines = _lines(text, delimiter)
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error}); save it as CSV, UTF-8") from None
    if len(lines) < 2:
        raise DataError(f"{path}: {len(lines)} rows; expected a header with the columns' names, and a row per image")
    _, columns = lines[0]
    _check(path, columns, lines[1:])
    rows = [Row(path, number, dict(zip(columns, cells, strict=True))) for number, cells in lines[1:]]
    return Table(path, tuple(columns), tuple(rows))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a CSV with a row per image") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save it as CSV, UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _lines(text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """(line number, cells) of every line that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found = []
    for cells in reader:
        stripped = [cell.strip() for cell in cells]
        if any(stripped):
            found.append((reader.line_num, stripped))
    return found


def _check(path: Path, columns: list[str], lines: list[tuple[int, list[str]]]) -> None:
    for name in columns:
        if not name:
            raise DataError(
                f"{path}: column {columns.index(name) + 1} has no name; name every column in the first line"
            )
        if columns.count(name) > 1:
            raise DataError(f'{path}: two columns are called "{name}"; rename one')
    for number, cells in lines:
        if len(cells) != len(columns):
            raise DataError(
                f"{path}, line {number}: {len(cells)} cells; expected {len(columns)}, as in the header;"
                ' a cell with a comma in it is written in quotation marks: "a, b"'
            )
