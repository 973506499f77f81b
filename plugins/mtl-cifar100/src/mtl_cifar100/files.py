"""CIFAR-100's original files for Python.

Shape letters: N images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from mtl_cifar100.domains import DOMAIN_OF, DOMAINS, FINE
from mtl_cifar100.pickles import as_text, read_pickle
from mtl_core import DataError

_FOLDER = "cifar-100-python"
_PIXELS = 3 * 32 * 32
_ARCHIVE = f"unpack {_FOLDER}.tar.gz (cs.toronto.edu/~kriz/cifar.html)"
_EXPECTED = "CIFAR-100's original file for Python, a pickled dict with data, fine_labels, coarse_labels, filenames"


@attrs.frozen(eq=False)
class Images:
    """One split.

    :param pixels: uint8 (N, 3, 32, 32)
    :param fine: (N,) fine labels, 0 to 99
    :param names: of the images, unique
    """

    pixels: NDArray[np.uint8]
    fine: NDArray[np.int64]
    names: list[str]


def _folder_of(root: Path) -> Path:
    """The folder with the files: ``root``, or the archive's folder in it."""
    for folder in (root, root / _FOLDER):
        if any((folder / name).is_file() for name in ("train", "test", "meta")):
            return folder
    found = "a file" if root.is_file() else "a folder without them" if root.is_dir() else "no such folder"
    raise DataError(f"{root}: {found}; expected the files train, test and meta, here or in {_FOLDER}: {_ARCHIVE}")


def read_split(root: Path, split: str) -> Images:
    """The images of ``"train"`` or ``"test"``.

    :raises DataError: a file is missing or not as the original; it says which
    """
    folder = _folder_of(root)
    _check_names(folder / "meta")
    path = folder / split
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected {_EXPECTED}: {_ARCHIVE}")
    found = read_pickle(path, _EXPECTED)
    missing = [key for key in ("data", "fine_labels", "coarse_labels") if key not in found]
    if missing:
        raise DataError(f"{path}: a dict without {', '.join(missing)}; it has {_shown(found)}; expected {_EXPECTED}")
    pixels = _read_pixels(path, found["data"])
    fine = _labels(path, "fine_labels", found["fine_labels"], len(pixels), len(FINE))
    coarse = _labels(path, "coarse_labels", found["coarse_labels"], len(pixels), len(DOMAINS))
    _check_domains(path, fine, coarse)
    return Images(pixels, fine, _names_of(found.get("filenames"), len(pixels)))


def _shown(found: dict[str, Any]) -> str:
    return ", ".join(sorted(found)) or "nothing"


def _read_pixels(path: Path, data: Any) -> NDArray[np.uint8]:
    """Rows of 1024 red, 1024 green and 1024 blue values as (N, 3, 32, 32)."""
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != _PIXELS:
        form = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else f"a {type(data).__name__}"
        raise DataError(f"{path}: data is {form}, expected uint8 (N, {_PIXELS}); is it CIFAR-100's file for Python?")
    if len(data) == 0:
        raise DataError(f"{path}: data holds no image; copy the file again")
    return data.reshape(-1, 3, 32, 32)


def _labels(path: Path, key: str, values: Any, size: int, classes: int) -> NDArray[np.int64]:
    """Labels (N,) from a list of numbers or an array."""
    try:
        made = np.asarray(values, dtype=np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: {key} are no whole numbers ({error}); copy the file again") from error
    if made.shape != (size,):
        raise DataError(f"{path}: {key} of shape {made.shape} for {size} images; copy the file again")
    if made.min() < 0 or made.max() >= classes:
        raise DataError(
            f"{path}: {key} from {made.min()} to {made.max()}, expected 0 to {classes - 1}; is it CIFAR-100's file?"
        )
    return made


def _check_domains(path: Path, fine: NDArray[np.int64], coarse: NDArray[np.int64]) -> None:
    """Refuse a file whose coarse labels are not those that belong to its fine ones."""
    expected = np.asarray(DOMAIN_OF)[fine]
    wrong = np.flatnonzero(expected != coarse)
    if len(wrong):
        first = wrong[0]
        raise DataError(
            f"{path}: image {first} has the fine label {fine[first]} ({FINE[fine[first]]}) and the coarse label"
            f" {coarse[first]}, expected {expected[first]} ({DOMAINS[expected[first]]}); {len(wrong)} images differ;"
            " take the original file"
        )


def _names_of(values: Any, size: int) -> list[str]:
    """A name for each image: its number, and its file's name, which two images may share."""
    files = [as_text(name).removesuffix(".png") for name in values] if isinstance(values, list) else []
    if len(files) != size:
        return [f"{number:05d}" for number in range(size)]
    return [f"{number:05d}-{file}" for number, file in enumerate(files)]


def _check_names(path: Path) -> None:
    """Where ``meta`` is there, its names must be those that this plugin calls the labels by."""
    if not path.is_file():
        return
    found = read_pickle(path, "CIFAR-100's file meta, a pickled dict with fine_label_names and coarse_label_names")
    for key, expected in (("fine_label_names", FINE), ("coarse_label_names", DOMAINS)):
        names = found.get(key)
        names = [as_text(name) for name in names] if isinstance(names, list) else []
        if names != list(expected):
            unlike = [place for place, name in enumerate(expected) if names[place : place + 1] != [name]]
            place = unlike[0] if unlike else len(expected)
            raise DataError(
                f"{path}: {key} are not CIFAR-100's: number {place} of {len(names)} is"
                f" {names[place : place + 1] or 'missing'}, expected {list(expected[place : place + 1]) or 'nothing'};"
                " take the original file"
            )
