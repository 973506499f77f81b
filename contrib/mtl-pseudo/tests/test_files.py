"""Arrays that grow row after row, and go on where they were left."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtl_core import DataError
from mtl_pseudo.files import _partial, _Rows, complete, rows_done, write

NAMES = ["a", "b"]


def batches(first: int, last: int = 7) -> Iterator[dict[str, Any]]:
    for begin in range(first, last, 2):
        rows = np.arange(begin, min(begin + 2, last))
        yield {"a": rows.astype(np.int16)[:, None] * np.ones((1, 3), np.int16), "b": rows.astype(np.float32)}


def written(folder: Path, first: int = 0, stop: int = 99) -> None:
    for done in write(folder, NAMES, 7, batches(first), first):
        if done >= stop:
            return


def assert_whole(folder: Path) -> None:
    a, b = (np.load(complete(folder, name), mmap_mode="r") for name in NAMES)
    assert (a.dtype, a.shape, b.dtype) == (np.int16, (7, 3), np.float32)
    assert a[:, 1].tolist() == b.tolist() == list(range(7))


def test_they_are_named_when_they_are_whole(tmp_path: Path) -> None:
    written(tmp_path, stop=4)
    assert not complete(tmp_path, "a").exists()
    written(tmp_path, rows_done(tmp_path, NAMES, 7))
    assert_whole(tmp_path)
    assert not _partial(tmp_path, "a").exists()


def test_what_is_left_of_a_row_is_cut_off(tmp_path: Path) -> None:
    written(tmp_path, stop=4)
    with _partial(tmp_path, "a").open("ab") as file:
        file.write(b"12345678")  # a row, and a third of the next
    assert _Rows(_partial(tmp_path, "a"), 7).done() == 5
    assert rows_done(tmp_path, NAMES, 7) == 4
    written(tmp_path, 4)
    assert_whole(tmp_path)


@pytest.mark.parametrize("text", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_array_is_begun_anew(tmp_path: Path, text: bytes) -> None:
    written(tmp_path, stop=4)
    _partial(tmp_path, "b").write_bytes(text)
    assert rows_done(tmp_path, NAMES, 7) == 0
    written(tmp_path)
    assert_whole(tmp_path)


def test_an_array_of_another_length_is_begun_anew(tmp_path: Path) -> None:
    written(tmp_path, stop=4)
    assert rows_done(tmp_path, NAMES, 8) == 0


def test_one_whole_array_of_two_is_not_enough(tmp_path: Path) -> None:
    written(tmp_path)
    complete(tmp_path, "b").replace(_partial(tmp_path, "b"))
    assert rows_done(tmp_path, NAMES, 7) == 0
    written(tmp_path)
    assert_whole(tmp_path)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = _Rows.append

    def append(self: _Rows, rows: Any) -> None:
        if len(rows) and rows.flat[0] >= 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(self, rows)

    monkeypatch.setattr(_Rows, "append", append)
    with pytest.raises(
        DataError, match=r"No space left on device; the labels of 4 of 7 samples are there, and the next"
    ):
        written(tmp_path)
    monkeypatch.undo()
    written(tmp_path, rows_done(tmp_path, NAMES, 7))
    assert_whole(tmp_path)
