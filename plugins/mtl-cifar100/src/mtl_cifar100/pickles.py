"""Pickles that hold numbers, text, lists, dicts and arrays; one that holds anything else is refused.

A pickle is a program: it may name any function and have it called. This reader knows four names, those by which numpy
writes an array, and puts functions of its own in their place, so that nothing from outside this file is ever called.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtl_core import DataError

_KINDS = "biuf"
"""Kinds of numbers that an array may hold: bool, integers, floats."""


class _Refused(pickle.UnpicklingError):
    """A pickle that asks for something else than data."""


class _Array:
    """Stands for an array until its numbers are there."""

    values: NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, number, fortran, data = state
        flat: NDArray[Any] = np.frombuffer(_as_bytes(data), number.kind)
        # a copy, because an array on a pickle's bytes is read-only
        self.values = (flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)).copy()


class _Number:
    """Stands for the type of an array's numbers."""

    def __init__(self, code: str) -> None:
        self.kind = np.dtype(code)
        if self.kind.kind not in _KINDS:
            raise _Refused(f"it holds an array of {self.kind}, expected numbers")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order: Any = as_text(state[1])
        self.kind = self.kind.newbyteorder(order)


def _as_bytes(data: Any) -> bytes:
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def as_text(data: Any) -> str:
    return data if isinstance(data, str) else str(data, "latin1")


def _begin_array(*_: Any) -> _Array:
    return _Array()


def _begin_number(code: Any, *_: Any) -> _Number:
    return _Number(as_text(code))


def _encode(text: str, *_: Any) -> bytes:
    """Bytes as Python 3 writes them for Python 2."""
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Callable[..., Any] | str] = {
    ("numpy.core.multiarray", "_reconstruct"): _begin_array,
    ("numpy._core.multiarray", "_reconstruct"): _begin_array,
    ("numpy", "dtype"): _begin_number,
    ("numpy", "ndarray"): "ndarray",  # only ever an argument
    ("_codecs", "encode"): _encode,
}


class _Reader(pickle.Unpickler):
    """Unpickles data alone."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise _Refused(f"it asks for {module}.{name}, which is code and not data")
        return _KNOWN[module, name]


def read_pickle(path: Path, expected: str) -> dict[str, Any]:
    """A dict from a pickle, with text for keys.

    :param expected: what the file has to be, for messages
    :raises DataError: the file is missing, damaged, no dict, or a pickle that would run code
    """
    try:
        with path.open("rb") as file:
            found = _Reader(file, encoding="bytes").load()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; expected {expected}") from error
    except _Refused as error:
        raise DataError(f"{path}: refused, because {error}; expected {expected}; take the original file") from error
    except Exception as error:  # damaged pickles raise a dozen kinds of error
        raise DataError(
            f"{path}: cannot be read as a pickle ({type(error).__name__}: {error}); expected {expected}; copy it again"
        ) from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: holds a {type(found).__name__}, expected {expected}")
    return {as_text(key): _plain(value) for key, value in found.items() if isinstance(key, bytes | str)}


def _plain(value: Any) -> Any:
    return value.values if isinstance(value, _Array) else value
