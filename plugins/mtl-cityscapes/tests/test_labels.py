"""Classes, categories and parts, against tables that are written out here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mtl_cityscapes.labels import CLASSES, PARTS, _decode_uids, class_of_id, parts_of


@pytest.mark.parametrize("classes", [19, 7])
def test_every_id_has_its_class(tables: dict[int, NDArray[Any]], classes: int) -> None:
    assert class_of_id(classes, "category").tolist() == tables[classes].tolist()


def test_rare_ids_may_be_ignored(tables: dict[int, NDArray[Any]]) -> None:
    expected = np.where(tables[19] >= 0, tables[7], -1)
    assert class_of_id(7, "ignored").tolist() == expected.tolist()
    rare = [i for i in range(34) if tables[7][i] >= 0 and tables[19][i] < 0]
    assert rare == [9, 10, 14, 15, 16, 18, 29, 30]
    assert class_of_id(19, "ignored").tolist() == tables[19].tolist()


def test_names_of_classes_are_in_the_order_of_training() -> None:
    table = class_of_id(19, "category")
    for i, name in {7: "road", 19: "traffic light", 23: "sky", 31: "train", 33: "bicycle"}.items():
        assert CLASSES[19][table[i]] == name
    table = class_of_id(7, "category")
    for i, name in {8: "flat", 12: "construction", 20: "object", 23: "sky", 25: "human", 32: "vehicle"}.items():
        assert CLASSES[7][table[i]] == name


@pytest.mark.parametrize(
    ("uid", "sid", "iid", "pid"),
    [
        (0, 0, -1, 0), (7, 7, -1, 0), (33, 33, -1, 0), (4003, 4, 3, 0), (24000, 24, 0, 0), (26999, 26, 999, 0),
        (400301, 4, 3, 1), (2400000, 24, 0, 0), (2401204, 24, 12, 4), (3399999, 33, 999, 99),
    ],
)  # fmt: skip
def test_a_uid_is_taken_apart(uid: int, sid: int, iid: int, pid: int) -> None:
    found = _decode_uids(torch.tensor([uid]))
    assert tuple(int(part) for part in found) == (sid, iid, pid)


@pytest.mark.parametrize(
    ("uid", "name"),
    [
        (0, "background"), (24, "background"), (24001, "background"), (2400100, "background"), (7, "background"),
        (2400001, "human torso"), (2500002, "human head"), (2401203, "human arms"), (2500104, "human legs"),
        (2600001, "vehicle windows"), (2700102, "vehicle wheels"), (2800003, "vehicle lights"),
        (2699904, "vehicle license plate"), (2800105, "vehicle chassis"),
        (2400105, "background"), (2600006, "background"), (3300001, "background"), (3100001, "background"),
    ],
)  # fmt: skip
def test_a_part_has_its_class(uid: int, name: str) -> None:
    assert PARTS[int(parts_of(torch.tensor([uid]))[0])] == name
