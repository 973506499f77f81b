"""What one file of a label holds, at its own size.

Shape letters: H and W the label's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl_core import DataError
from mtl_data import channels_first, read_picture, unit
from mtl_pascal_context.classes import CLASSES, FROM_LABEL_MAP, LAST_LABEL, PART_OF, PERSON, WITH_NORMALS

Array = NDArray[Any]

_VOID = 255
_OBJECTS = "objects as PASCAL-Part has them (anno.objects, each with class, class_ind, mask and parts)"


def read_classes(path: Path) -> Tensor:
    """Classes (H, W) as long, −1 where void."""
    values = read_picture(path, ("P", "L"), "an 8-bit image with a palette: 0 to 20 the classes, 255 void")
    wrong = values[(values >= len(CLASSES)) & (values != _VOID)]
    if wrong.size:
        raise DataError(
            f"{path}: {wrong.size} pixels of no class, the first {wrong[0]}; expected 0 to {len(CLASSES) - 1}"
            f" ({CLASSES[-1]}) or {_VOID} (void); is it another data set's?"
        )
    classes = values.astype(np.int64)
    classes[values == _VOID] = -1
    return torch.from_numpy(classes)


def classes_of(label_map: Array) -> Tensor:
    """Classes (H, W) as long, made of a label map; whatever is none of the 20 is background."""
    table = np.zeros(LAST_LABEL + 1, np.int64)
    table[list(FROM_LABEL_MAP)] = np.arange(1, len(CLASSES))
    return torch.from_numpy(table[label_map])


def read_label_map(path: Path) -> Array:
    """Numbers of the 459 classes, int64 (H, W)."""
    expected = f"a LabelMap (H, W) of whole numbers up to {LAST_LABEL}"
    values = np.asarray(_read_mat(path, "LabelMap", expected))
    if values.ndim != 2 or not values.size or values.dtype.kind not in "iuf":
        raise DataError(f"{path}: LabelMap is {values.dtype} of shape {values.shape}, expected {expected}")
    labels: Array = values.astype(np.int64)
    if (labels != values).any() or labels.min() < 0 or labels.max() > LAST_LABEL:
        raise DataError(f"{path}: LabelMap from {values.min():g} to {values.max():g}, expected {expected}")
    return labels


def read_parts(path: Path) -> Tensor | None:
    """Human parts (H, W) as long, 0 where there is none; None where no part of a person is marked.

    Masks are painted in the order of the file: a later one covers an earlier one.
    """
    painted: Array | None = None
    for mask, parts in _persons(path):
        painted = np.zeros(mask.shape, np.int64) if painted is None else painted
        for name, part in parts:
            if name not in PART_OF:
                raise DataError(f"{path}: a part {name!r} of a person; expected one of {', '.join(sorted(PART_OF))}")
            if part.shape != painted.shape:
                raise DataError(
                    f"{path}: the mask of {name} has shape {part.shape}, the first person's {painted.shape}; expected"
                    " masks of the image's size; unpack the archive again"
                )
            painted[part.astype(bool)] = PART_OF[name]
    return torch.from_numpy(painted) if painted is not None and painted.any() else None


def _persons(path: Path) -> list[tuple[Array, list[tuple[str, Array]]]]:
    """Each person that has parts: mask, and names and masks of the parts."""
    annotation = _read_mat(path, "anno", _OBJECTS)
    try:
        objects = annotation[0][0][1]
        return [found for row in (objects[0] if objects.size else ()) if (found := _person(row)) is not None]
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: anno is not {_OBJECTS} ({type(error).__name__}: {error}); is it another folder's?"
        ) from error


def _person(row: Any) -> tuple[Array, list[tuple[str, Array]]] | None:
    """One object of a file, in the nested form that scipy gives; None where it is no person with parts."""
    kind = int(row[1][0][0])
    mask = np.asarray(row[2])
    parts = np.asarray(row[3])
    if kind != PERSON or not parts.size:
        return None
    return mask, [(str(part[0][0]), np.asarray(part[1])) for part in parts[0]]


def read_normals(path: Path, label_map: Array, axes: Sequence[str]) -> Tensor:
    """Unit vectors (3, H, W), zero where the label map's class has none.

    :param axes: for our x, y and z the published component, such as ``"-z"``
    """
    values = read_picture(path, ("RGB",), "an RGB image of normals, n = 2 v / 255 − 1")
    if values.shape[:2] != label_map.shape:
        raise DataError(
            f"{path}: {values.shape[0]} × {values.shape[1]} pixels, but its label map has"
            f" {label_map.shape[0]} × {label_map.shape[1]}; expected one size; unpack the archive again"
        )
    published = values.astype(np.float32) * (2 / 255) - 1
    turned = np.stack([_component(published, axis) for axis in axes], -1)
    known = np.isin(label_map, WITH_NORMALS)[..., None]
    return unit(channels_first(np.where(known, turned, np.float32(0))))


def _component(vectors: Array, axis: str) -> Array:
    """A component (H, W) by its name: ``"x"``, or ``"-x"`` for its opposite."""
    values: Array = vectors[..., "xyz".index(axis[-1])]
    return -values if axis.startswith("-") else values


def read_saliency(path: Path) -> Tensor:
    """1 where salient, else 0: long (H, W)."""
    values = read_picture(path, ("L",), "an 8-bit grey image, salient from 128 on")
    return torch.from_numpy((values > _VOID / 2).astype(np.int64))


def _read_mat(path: Path, key: str, expected: str) -> Any:
    """A variable of a MATLAB file.

    :raises DataError: the file is missing or damaged, or lacks the variable
    """
    from scipy.io import loadmat

    try:
        variables = loadmat(path, variable_names=[key])
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; expected {expected}") from error
    except Exception as error:  # damaged files make scipy raise a dozen kinds of error
        raise DataError(
            f"{path}: cannot be read as a MATLAB file ({type(error).__name__}: {str(error)[:100]}); expected"
            f" {expected}; unpack the archive again"
        ) from error
    if key not in variables:
        raise DataError(f"{path}: has no variable {key}; expected {expected}; is it another folder's?")
    return variables[key]
