"""Splits that numpy or torch saved: ``.pth``, ``.npy``, and the ``labels.npz`` of a run."""

from __future__ import annotations

import pickle
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

SAVED = f'a dict with "labels_weights" (N, K), as torch.save writes it, or {ROWS}'
FORMS = {
    ".pth": SAVED,
    ".pt": SAVED,
    ".npy": f"an array of numbers (N, K), or {LISTS}",
    ".npz": 'arrays "labelled" (N, K) and "tasks" (K), as in a run\'s labels.npz',
}


def read_array(path: Path, names: Sequence[str] | None = None) -> Split:
    """
    :param names: the samples' names, for files that go by them
    :raises DataError: the file is none of these, or cannot be read
    """
    if path.suffix not in FORMS:
        raise DataError(f"{path}: a split file ends in .pth, .npy, .npz or .csv, found {path.suffix or 'no ending'!r}")
    try:
        return load(path, names)
    except DataError:
        raise
    except Exception as error:  # damaged files make numpy, zipfile and torch raise a dozen kinds of error
        reason = next(iter(str(error).splitlines()), "")
        raise DataError(
            f"{path}: cannot be read as a split ({type(error).__name__}: {reason[:120]}); expected {FORMS[path.suffix]}"
        ) from error


def load(path: Path, names: Sequence[str] | None) -> Split:
    if path.suffix == ".npy":
        if holds_objects(path):
            return from_lists(path, read_object(path), names)
        with path.open("rb") as file:
            return Split(numbers(np.load(file, allow_pickle=False)))
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as saved:
            return Split(numbers(saved["labelled"]), tuple(map(str, saved["tasks"].tolist())))
    with path.open("rb") as file:
        start = file.read(2)
    if start != b"PK" and start[:1] != b"\x80":  # an archive, or a pickle as torch wrote before 1.6
        raise DataError(f"{path}: not a file that torch.save writes; expected {FORMS[path.suffix]}")
    rows = plain_rows(path) if start == b"PK" else None
    return Split(numbers(saved_by_torch(path)["labels_weights"])) if rows is None else from_rows(path, rows, names)


def plain_rows(path: Path) -> dict[str, list[float]] | None:
    """What an archive has where it is a dict of rows; None where it is something else, such as a tensor."""
    try:
        found = read_archive(path)
    except Exception:  # what it is instead, or what is wrong with it, torch says
        return None
    return found if is_rows(found) else None


def saved_by_torch(path: Path) -> dict[str, Any]:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise Refused("it is damaged, or asks for code, and no code is run from a split file") from error
    if not isinstance(saved, dict) or "labels_weights" not in saved:
        found = f"a dict with {', '.join(map(repr, saved))}" if isinstance(saved, dict) else f"a {type(saved).__name__}"
        raise DataError(f"{path}: holds {found}; expected {FORMS[path.suffix]}")
    return saved


def numbers(values: Any) -> Tensor:
    return torch.as_tensor(values).to(torch.float64)
