"""Splits that are arrays: ``.pth``, ``.npy``, and the ``labels.npz`` of a run.

Shape letters: N samples, M columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from mtl_core import DataError

FORMS = {
    ".pth": 'a dict with "labels_weights" (N, K), as torch.save writes it',
    ".pt": 'a dict with "labels_weights" (N, K), as torch.save writes it',
    ".npy": "an array of numbers (N, K)",
    ".npz": 'arrays "labelled" (N, K) and "tasks" (K), as in a run\'s labels.npz',
}


@attrs.frozen(eq=False)
class Split:
    """A split as its file holds it.

    :param table: float64 (N, M) or whatever shape the file has
    :param columns: M tasks, or () where the file does not name them
    """

    table: Tensor
    columns: tuple[str, ...] = ()


def read_array(path: Path) -> Split:
    """:raises DataError: the file is none of these, or cannot be read"""
    if path.suffix not in FORMS:
        raise DataError(f"{path}: a split file ends in .pth, .npy, .npz or .csv, found {path.suffix or 'no ending'!r}")
    try:
        return load(path)
    except DataError:
        raise
    except Exception as error:  # damaged files make numpy, zipfile and torch raise a dozen kinds of error
        reason = next(iter(str(error).splitlines()), "")
        raise DataError(
            f"{path}: cannot be read as a split ({type(error).__name__}: {reason[:120]}); expected {FORMS[path.suffix]}"
        ) from error


def load(path: Path) -> Split:
    if path.suffix == ".npy":
        with path.open("rb") as file:
            return Split(numbers(np.load(file, allow_pickle=False)))
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as saved:
            return Split(numbers(saved["labelled"]), tuple(map(str, saved["tasks"].tolist())))
    return Split(numbers(saved_by_torch(path)["labels_weights"]))


def saved_by_torch(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        start = file.read(2)
    if start != b"PK" and start[:1] != b"\x80":  # an archive, or a pickle as torch wrote before 1.6
        raise DataError(f"{path}: not a file that torch.save writes; expected {FORMS[path.suffix]}")
    saved = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(saved, dict) or "labels_weights" not in saved:
        found = f"a dict with {', '.join(map(repr, saved))}" if isinstance(saved, dict) else f"a {type(saved).__name__}"
        raise DataError(f"{path}: holds {found}; expected {FORMS[path.suffix]}")
    return saved


def numbers(values: Any) -> Tensor:
    return torch.as_tensor(values).to(torch.float64)
