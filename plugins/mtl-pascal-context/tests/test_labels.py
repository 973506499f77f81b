"""What a label's file holds is what is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from mtl_pascal_context import labels
from mtl_pascal_context.classes import CLASSES, FROM_LABEL_MAP, PART_OF, PARTS, WITH_NORMALS

SIZE = (6, 8)
WriteParts = Callable[..., None]


def mask(*rows: int) -> Any:
    marked = np.zeros(SIZE, bool)
    marked[list(rows)] = True
    return marked


def test_the_tables() -> None:
    assert (len(CLASSES), len(PARTS), len(PART_OF)) == (21, 7, 24)
    assert len(set(FROM_LABEL_MAP)) == 20
    assert len(set(WITH_NORMALS)) == 170
    assert {0, 360, 189, 187, 431}.isdisjoint(WITH_NORMALS)  # none, sky, ground, grass, unknown
    assert {440, 158, 284, 427} <= set(WITH_NORMALS)  # wall, floor, person, tvmonitor


@pytest.mark.parametrize("mode", ["P", "L"])
def test_classes_are_the_numbers_of_the_palette(tmp_path: Path, mode: str) -> None:
    values = np.array([[0, 1, 20], [255, 15, 7]], np.uint8)
    picture = Image.fromarray(values)
    if mode == "P":
        picture.putpalette([k % 256 for k in range(768)][::-1])
    picture.save(tmp_path / "a.png")
    assert labels.read_classes(tmp_path / "a.png").tolist() == [[0, 1, 20], [-1, 15, 7]]


def test_a_palette_of_few_bits(tmp_path: Path) -> None:
    """Palette files with 4 bits for a pixel are what some tools make of a few classes."""
    picture = Image.fromarray(np.array([[0, 1, 15], [7, 15, 2]], np.uint8))
    picture.putpalette([0] * 48)
    picture.save(tmp_path / "a.png", bits=4)
    assert labels.read_classes(tmp_path / "a.png").tolist() == [[0, 1, 15], [7, 15, 2]]


def test_classes_of_a_label_map() -> None:
    found = labels.classes_of(np.array([[0, 1, 2, 397], [427, 284, 459, 431]]))
    assert [[CLASSES[c] for c in row] for row in found.tolist()] == [
        ["background", "background", "aeroplane", "diningtable"],
        ["tvmonitor", "person", "background", "background"],
    ]


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.float64, np.uint8])
def test_a_label_map_of_any_type(tmp_path: Path, kind: Any) -> None:
    savemat(tmp_path / "a.mat", {"LabelMap": np.arange(12).reshape(3, 4).astype(kind)})
    found = labels.read_label_map(tmp_path / "a.mat")
    assert found.dtype == np.int64
    assert found.tolist() == np.arange(12).reshape(3, 4).tolist()


def test_parts_are_painted_in_the_order_of_the_file(tmp_path: Path, write_parts: WriteParts) -> None:
    write_parts(
        tmp_path / "a.mat",
        [
            ("person", 15, mask(0, 1, 2, 3), [("torso", mask(0, 1, 2)), ("head", mask(0)), ("lhand", mask(3))]),
            ("dog", 12, mask(4), [("head", mask(4))]),
            ("person", 15, mask(2, 5), [("rfoot", mask(2)), ("ruarm", mask(5)), ("luleg", mask())]),
        ],
    )
    found = labels.read_parts(tmp_path / "a.mat")
    assert found is not None
    assert [PARTS[row[0]] for row in found.tolist()] == [
        "head", "torso", "lower legs", "lower arms", "background", "upper arms",
    ]  # fmt: skip
    assert (found == found[:, :1]).all()


@pytest.mark.parametrize(
    "objects",
    [
        [],
        [("car", 7, mask(1), [])],
        [("person", 15, mask(1), [])],
        [("horse", 13, mask(1), [("head", mask(1))])],
        [("person", 15, mask(1), [("head", mask())])],
    ],
    ids=["nothing", "no person", "no parts", "parts of others", "empty masks"],
)
def test_an_image_without_parts(tmp_path: Path, write_parts: WriteParts, objects: Any) -> None:
    write_parts(tmp_path / "a.mat", objects)
    assert labels.read_parts(tmp_path / "a.mat") is None


def test_normals_where_their_class_has_some(tmp_path: Path) -> None:
    coded = np.array([[[255, 128, 128], [128, 255, 128], [128, 128, 255], [0, 128, 128]]], np.uint8)
    Image.fromarray(coded).save(tmp_path / "a.png")
    found = labels.read_normals(tmp_path / "a.png", np.array([[440, 440, 284, 189]]), ("x", "y", "-z"))
    expected = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, -1], [0, 0, 0]]).T[:, None]
    assert (found - expected).abs().max() < 0.005
    assert (found[:, 0, 3] == 0).all()


def test_axes_are_named_by_the_published_components(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[230, 170, 200]]], np.uint8)).save(tmp_path / "a.png")
    wall = np.array([[440]])
    x, y, z = labels.read_normals(tmp_path / "a.png", wall, ("x", "y", "z")).flatten().tolist()
    assert x > z > y > 0
    assert x / z == pytest.approx((2 * 230 - 255) / (2 * 200 - 255), rel=1e-5)
    turned = labels.read_normals(tmp_path / "a.png", wall, ("-y", "z", "-x")).flatten().tolist()
    assert turned == pytest.approx([-y, z, -x])


def test_saliency_begins_above_one_half(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8)).save(tmp_path / "a.png")
    assert labels.read_saliency(tmp_path / "a.png").tolist() == [[0, 0, 1, 1]]
