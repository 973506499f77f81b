"""Labels on a disk: an array per task or part of one, written row after row.

Shape letters: N samples.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mtl_core import DataError

_Array = NDArray[Any]


def complete(folder: Path, name: str) -> Path:
    """The file of an array that is whole."""
    return folder / f"{name}.npy"


def _partial(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy.part"


class _Rows:
    """An array of N rows that grows on the disk; stopped anywhere, it goes on after the last whole row.

    :param path: of the part that is there
    :param length: N
    """

    def __init__(self, path: Path, length: int) -> None:
        self.path = path
        self.length = length

    def done(self) -> int:
        """How many rows are there."""
        try:
            with self.path.open("rb") as file:
                shape, dtype = self.header(file)
                return (self.path.stat().st_size - file.tell()) // _row_bytes(shape, dtype)
        except (FileNotFoundError, ValueError):
            return 0

    def header(self, file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """:raises ValueError: the file has no such header, or is of another length"""
        npy.read_magic(file)
        shape, _, dtype = npy.read_array_header_1_0(file)
        if shape[0] != self.length:
            raise ValueError(f"{shape[0]} rows")
        return shape, dtype

    def cut(self, rows: int) -> None:
        """Keep the first rows; 0: remove the file."""
        if rows == 0:
            self.path.unlink(missing_ok=True)
            return
        with self.path.open("rb+") as file:
            shape, dtype = self.header(file)
            file.truncate(file.tell() + rows * _row_bytes(shape, dtype))

    def append(self, rows: _Array) -> None:
        with self.path.open("ab") as file:
            if file.tell() == 0:
                about = {"descr": rows.dtype.str, "fortran_order": False, "shape": (self.length, *rows.shape[1:])}
                npy.write_array_header_1_0(file, about)
            file.write(np.ascontiguousarray(rows).tobytes())

    def finish(self, path: Path) -> None:
        """The whole array gets its name."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(path)


def _row_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize


def write(
    folder: Path, names: list[str], length: int, batches: Iterator[Mapping[str, _Array]], first: int
) -> Iterator[int]:
    """Append batches of rows to every array, and name the arrays when they are whole.

    :param names: of the arrays
    :param batches: of the rows from ``first`` on
    :return: how many rows are there, after every batch
    :raises DataError: the disk is full
    """
    parts = {name: _Rows(_partial(folder, name), length) for name in names}
    done = first
    for batch in batches:
        try:
            for name, rows in batch.items():
                parts[name].append(rows)
        except OSError as error:
            raise DataError(
                f"{folder}: {error.strerror or error}; the labels of {done} of {length} samples are there, and the next"
                " run goes on after them; free some room, or set plugins.pseudo.folder to another disk"
            ) from error
        done += len(next(iter(batch.values())))
        yield done
    for name, part in parts.items():
        part.finish(complete(folder, name))


def rows_done(folder: Path, names: list[str], length: int) -> int:
    """How many rows every array has; what some have more is cut off."""
    parts = [_Rows(_partial(folder, name), length) for name in names]
    done = min(min(part.done() for part in parts), length)
    for part in parts:
        part.cut(done)
    return done
