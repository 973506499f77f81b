"""Splits that are arrays: ``.pth``, ``.npy``, and the ``labels.npz`` of a run.

Shape letters: N samples, M columns.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl_core import DataError
from mtl_labels.by_id import LISTS, ROWS, from_lists, from_rows, is_rows
from mtl_labels.pickles import Refused, holds_objects, read_archive, read_object
from mtl_labels.split import Split

_SAVED = f'a dict with "labels_weights" (N, K), as torch.save writes it, or {ROWS}'
_FORMS = {
    ".pth": _SAVED,
    ".pt": _SAVED,
    ".npy": f"an array of numbers (N, K), or {LISTS}",
    ".npz": 'arrays "labelled" (N, K) and "tasks" (K), as in a run\'s labels.npz',
}
LARGEST = 1 << 30
"""Bytes of a file, and of what an archive unpacks to; the labels of a million samples and 100 tasks take less."""
_KEYS_SHOWN = 5


def read_array(path: Path, names: Sequence[str] | None = None) -> Split:
    """Read a split.

    :param names: the samples' names, for files that go by them
    :raises DataError: the file is none of these, or cannot be read
    """
    ending = path.suffix.lower()
    if ending not in _FORMS:
        raise DataError(f"{path}: a split file ends in .pth, .npy, .npz or .csv, found {path.suffix or 'no ending'!r}")
    try:
        return _load(path, ending, names)
    except DataError:
        raise
    except _WrongContent as error:
        raise DataError(f"{path}: {error}; expected {_FORMS[ending]}") from error
    except Exception as error:  # damaged files make numpy, zipfile and torch raise a dozen kinds of error
        reason = next(iter(str(error).splitlines()), "")
        raise DataError(
            f"{path}: cannot be read as a split ({type(error).__name__}: {reason[:120]}); expected {_FORMS[ending]}"
        ) from error


class _WrongContent(Exception):
    """What a file that can be read holds in place of a split."""


def _load(path: Path, ending: str, names: Sequence[str] | None) -> Split:
    if zipfile.is_zipfile(path):
        _check_archive(path)
    if ending == ".npy" and not zipfile.is_zipfile(path) and holds_objects(path):
        return from_lists(path, read_object(path), names)
    with path.open("rb") as file:
        if ending == ".npy":
            return Split(_of_array(np.load(file, allow_pickle=False)))
        if ending == ".npz":
            return _of_archive(np.load(file, allow_pickle=False))
        start = file.read(2)
    # an archive, or a pickle as torch wrote before 1.6
    if start != b"PK" and start[:1] != b"\x80":
        raise _WrongContent("not a file that torch.save writes")
    rows = _plain_rows(path) if start == b"PK" else None
    return Split(_of_torch(path)) if rows is None else from_rows(path, rows, names)


def _plain_rows(path: Path) -> dict[str, list[float]] | None:
    """What an archive has where it is a dict of rows; None where it is something else, such as a tensor."""
    try:
        found = read_archive(path)
    except Exception:  # what it is instead, or what is wrong with it, torch says
        return None
    return found if is_rows(found) else None


def _check_archive(path: Path) -> None:
    """Refuse an archive that would fill the memory, or of which a byte has changed: torch does not look."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > LARGEST:
            raise _WrongContent(f"unpacks to {unpacked / LARGEST:.0f} GiB, which no split does")
        damaged = archive.testzip()
    if damaged is not None:
        raise _WrongContent(f"damaged (the checksum of its part {damaged!r} is wrong)")


def _of_archive(saved: Any) -> Split:
    if isinstance(saved, np.ndarray):
        raise _WrongContent("holds one array without a name")
    missing = [key for key in ("labelled", "tasks") if key not in saved]
    if missing:
        raise _WrongContent(f"has no array {missing[0]!r} (it has: {', '.join(saved) or 'none'})")
    return Split(_of_array(saved["labelled"]), _task_names(saved["tasks"]))


def _of_array(values: Any) -> Tensor:
    if not isinstance(values, np.ndarray):
        raise _WrongContent("holds several arrays by name, as a .npz file does")
    if values.dtype.kind not in "biuf":
        raise _WrongContent(f"holds values of type {values.dtype}, which are no numbers")
    # also turns the byte order of other machines
    return torch.from_numpy(values.astype(np.float64))


def _task_names(values: Any) -> tuple[str, ...]:
    if values.ndim != 1 or values.dtype.kind != "U":
        raise _WrongContent(f'"tasks" is an array {values.shape} of type {values.dtype}, not a list of names')
    names = tuple(map(str, values.tolist()))
    if len(set(names)) < len(names):
        raise _WrongContent(f'"tasks" names a task twice ({", ".join(names)})')
    return names


def _of_torch(path: Path) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of forms that are refused below
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise Refused("it is damaged, or asks for code, and no code is run from a split file") from error
    if not isinstance(saved, dict) or "labels_weights" not in saved:
        raise _WrongContent(f"holds {_described(saved)}")
    values = torch.as_tensor(saved["labels_weights"])
    kind = _not_a_plain_table(values)
    if kind:
        raise _WrongContent(f'its "labels_weights" is {kind}; save it as a dense tensor of numbers')
    return values.detach()


def _described(saved: Any) -> str:
    if not isinstance(saved, dict):
        return f"a {type(saved).__name__}"
    if not saved:
        return "an empty dict"
    shown = ", ".join(map(repr, list(saved)[:_KEYS_SHOWN]))
    return f"a dict with {shown}{', …' if len(saved) > _KEYS_SHOWN else ''}"


def _not_a_plain_table(values: Tensor) -> str:
    """What kind of tensor it is, where its values cannot be read as a table's."""
    if values.is_nested:
        return "a nested tensor"
    if values.layout != torch.strided:
        return f"a sparse tensor ({values.layout})"
    if values.is_meta:
        return "a tensor without values (on the meta device)"
    if values.is_quantized or values.is_complex():
        return f"a tensor of type {values.dtype}"
    return ""
