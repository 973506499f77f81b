"""Plain values out of pickles, without running what a pickle asks for.

A pickle is a program: it may call any function that it names. Here it is run with a few names, behind which stand
harmless substitutes; whatever else it names is refused before it is imported.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from numpy.lib import format as npy

_LARGEST = 64 * 2**20
"""Bytes of a file that is read. The published splits have less than one mebibyte."""

_INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
_REALS = {"f4": "f", "f8": "d"}


class Refused(Exception):
    """A pickle of something else than plain values; the message says what."""


class _Type:
    """Stands for a ``numpy.dtype``: its code, such as ``"U11"``, and its byte order."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class _Array:
    """Stands for a ``numpy.ndarray`` of objects: its shape, and what is in it."""

    shape: tuple[int, ...] = ()
    items: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, _, items = state
        if not isinstance(kind, _Type) or not kind.code.startswith("O") or not isinstance(items, list):
            raise Refused("it holds an array of something else than objects")
        self.shape = tuple(shape)
        self.items = tuple(items)


class _Substitute:
    """What a pickle gets for a name: it can be called, and not be changed."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise Refused("it changes a function")


def _new_type(code: str, *_: Any) -> _Type:
    return _Type(str(code))


def _new_array(*_: Any) -> _Array:
    return _Array()


def _scalar(kind: _Type, data: bytes) -> str | int | float:
    """A numpy scalar as text or number of Python's own."""
    big = kind.order == ">"
    if kind.code.startswith("U"):
        return data.decode("utf-32-be" if big else "utf-32-le").rstrip("\0")
    if kind.code in _INTEGERS:
        return int.from_bytes(data, "big" if big else "little", signed=kind.code.startswith("i"))
    if kind.code in _REALS:
        return float(struct.unpack((">" if big else "<") + _REALS[kind.code], data)[0])
    raise Refused(f"it holds a scalar of numpy's type {kind.code!r}")


def _encoded(text: str, encoding: str) -> bytes:
    """Bytes as the older protocols write them."""
    if encoding != "latin1":
        raise Refused(f"it holds bytes in the encoding {encoding!r}")
    return text.encode("latin-1")


def _not_called(*_: Any) -> Any:
    raise Refused("it makes an array by calling numpy.ndarray")


_SUBSTITUTES = {
    ("numpy", "dtype"): _Substitute(_new_type),
    ("numpy", "ndarray"): _Substitute(_not_called),
    ("numpy.core.multiarray", "_reconstruct"): _Substitute(_new_array),
    ("numpy.core.multiarray", "scalar"): _Substitute(_scalar),
    ("numpy._core.multiarray", "_reconstruct"): _Substitute(_new_array),
    ("numpy._core.multiarray", "scalar"): _Substitute(_scalar),
    ("_codecs", "encode"): _Substitute(_encoded),
}
"""``numpy._core`` is numpy 2's name of ``numpy.core``."""


class _PlainUnpickler(pickle.Unpickler):
    """Reads dicts, lists, tuples, text and numbers, and numpy's scalars and arrays of these."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _SUBSTITUTES:
            raise Refused(f"it asks for {module}.{name}, and no code is run from a split file")
        return _SUBSTITUTES[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("it holds tensors")


def _unpickled(file: BinaryIO) -> Any:
    """:raises Refused: a pickle of something else than plain values"""
    return _PlainUnpickler(file).load()


def read_object(path: Path) -> Any:
    """The object that ``numpy.save`` wrote into a ``.npy`` file.

    :raises Refused: it is something else than plain values, or there are several
    """
    _check_size(path.stat().st_size)
    with path.open("rb") as file:
        _header(file)
        found = _unpickled(file)
    if not isinstance(found, _Array) or found.shape != () or len(found.items) != 1:
        raise Refused("it holds an array of objects, not one object")
    return found.items[0]


def holds_objects(path: Path) -> bool:
    """Whether a ``.npy`` file has a pickle in place of numbers."""
    with path.open("rb") as file:
        return bool(_header(file)[2].hasobject)


def _header(file: BinaryIO) -> Any:
    """Shape, order and type of a ``.npy`` file; what follows is its data."""
    read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    return read(file)


def read_archive(path: Path) -> Any:
    """The value in an archive of ``torch.save`` that has no tensors.

    :raises Refused: it holds tensors, or something else than plain values
    """
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
        _check_size(archive.getinfo(name).file_size)
        return _unpickled(io.BytesIO(archive.read(name)))


def _check_size(size: int) -> None:
    if size > _LARGEST:
        raise Refused(f"it has {size} bytes, more than a split needs")
