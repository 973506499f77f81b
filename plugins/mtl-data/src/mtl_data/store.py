"""A file of records that processes fill and read at once.

Shape letters: N records.

A line of JSON that says what is in it, N checksums, N records; the file has its full length from the beginning, and
takes room on the disk where it was written. A record whose checksum is 0 is not there yet. The checksum is written
after the record and compared when a process reads it for the first time: what a crash of a process or of the machine
left half-written, or two layouts mixed up, counts as not there. A record may be written again, with more labels: its
checksum is 0 meanwhile.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from mtl_data.records import Bytes, Field, Layout

FORMAT = "mtl samples 2"
_PAGE = 4096
LEFT = 2**30
"""Bytes of the disk that are left free, for checkpoints."""


class DiskFull(OSError):
    """There is no room for another record."""


class Replaced(Exception):
    """Another process has put another file in this one's place."""


def _paged(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _checksum(record: Bytes) -> int:
    """Never 0. It finds what was not written; it is no protection against anybody."""
    return int(record.view(np.uint64).sum()) or 1


class Store:
    """N records of one layout.

    :param path: what :func:`make_store` wrote
    :raises OSError: it is not there, or cannot be read
    :raises ValueError: it is no such file
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.inode = os.fstat(file.fileno()).st_ino
            line = file.readline()
            about = json.loads(line)
            if about["format"] != FORMAT:
                raise ValueError(f"{path}: format {about['format']!r}")
            self.memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.length: int = about["records"]
        fields = tuple(Field(**{**f, "shape": tuple(f["shape"])}) for f in about["fields"])
        self.layout = Layout(fields, tuple(about["tasks"]))
        self.sums_at = _paged(len(line))
        self.records_at = self.sums_at + _paged(8 * self.length)
        if len(self.memory) != self.records_at + self.length * self.layout.size:
            raise ValueError(f"{path}: {len(self.memory)} bytes")
        whole = np.frombuffer(self.memory, np.uint8)
        self.sums: NDArray[np.uint64] = whole[self.sums_at : self.sums_at + 8 * self.length].view(np.uint64)
        self.records = whole[self.records_at :].reshape(self.length, self.layout.size)
        self.checked: NDArray[np.uint64] = np.zeros(self.length, np.uint64)
        """The checksums that were compared."""

    def get(self, index: int) -> Bytes | None:
        """A copy of a record, or None where it is not there, or is being written."""
        total = self.sums[index] if index < self.length else 0
        if not total:
            return None
        record: Bytes = self.records[index].copy()
        if self.checked[index] != total and _checksum(record) == total:
            self.checked[index] = total
        return record if self.checked[index] == total == self.sums[index] else None

    def put(self, index: int, record: Bytes) -> None:
        """Write a record, then its checksum.

        :raises DiskFull: it would leave less than :data:`LEFT` bytes free
        :raises Replaced: the file is another one now
        :raises OSError: it cannot be written, such as when another run removed the file
        """
        if index >= self.length:
            return
        free = shutil.disk_usage(self.path).free
        if free < LEFT + len(record):
            raise DiskFull(f"{free / 2**30:.1f} GiB are free")
        # written and not mapped: a full disk is an error here, and would end the process there
        with self.path.open("rb+") as file:
            if os.fstat(file.fileno()).st_ino != self.inode:
                raise Replaced
            for place, data in (
                (self.sums_at + 8 * index, bytes(8)),
                (self.records_at + index * len(record), record.data),
                (self.sums_at + 8 * index, np.uint64(_checksum(record)).tobytes()),
            ):
                file.seek(place)
                file.write(data)
                file.flush()


def store_size(length: int, layout: Layout) -> int:
    """Bytes of a file of ``length`` records, but for a few."""
    return 2 * _PAGE + length * (layout.size + 8)


def make_store(path: Path, length: int, layout: Layout, about: Mapping[str, Any]) -> None:
    """An empty file for ``length`` records, which appears whole.

    :param about: for a reader of the file
    """
    fields = [attrs.asdict(field) for field in layout.fields]
    described = {"format": FORMAT, "records": length, "fields": fields, "tasks": layout.tasks, "about": about}
    text = json.dumps(described, default=str)
    line = f"{text}\n".encode()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(line)
            file.truncate(_paged(len(line)) + _paged(8 * length) + length * layout.size)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
