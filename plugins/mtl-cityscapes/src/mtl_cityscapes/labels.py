"""Classes and parts of Cityscapes, from the numbers that its files hold.

Shape letters: H and W image size. Ids: cityscapesScripts, ``helpers/labels.py``; uids of Panoptic Parts:
panoptic_parts, ``LABEL_FORMAT.md``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LAST_ID = 33
_NAMES = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck",
    28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip
"""Id → name of the 19 classes that the benchmark evaluates, in the order of training."""
_CATEGORIES = {
    "flat": range(7, 11), "construction": range(11, 17), "object": range(17, 21), "nature": range(21, 23),
    "sky": range(23, 24), "human": range(24, 26), "vehicle": range(26, 34),
}  # fmt: skip
"""Name → ids of the 7 categories; ids 0 to 6 are void."""
_HUMANS = (24, 25)
_VEHICLES = (26, 27, 28)
_HUMAN_PARTS = ("torso", "head", "arms", "legs")
_VEHICLE_PARTS = ("windows", "wheels", "lights", "license plate", "chassis")

CLASSES = {19: tuple(_NAMES.values()), 7: tuple(_CATEGORIES)}
PARTS = (
    "background",
    *(f"human {part}" for part in _HUMAN_PARTS),
    *(f"vehicle {part}" for part in _VEHICLE_PARTS),
)


def class_of_id(classes: int, rare: str) -> Tensor:
    """The class of each id, int64 (34,); −1 where it is ignored.

    :param classes: 19 or 7
    :param rare: with 7 classes, whether the ids that the benchmark does not evaluate (parking, rail track, guard rail,
        bridge, tunnel, polegroup, caravan, trailer) count with their "category" or are "ignored"
    """
    table = torch.full((LAST_ID + 1,), -1)
    if classes == 19:
        table[list(_NAMES)] = torch.arange(19)
        return table
    for place, ids in enumerate(_CATEGORIES.values()):
        table[list(ids)] = place
    if rare == "ignored":
        evaluated = torch.zeros_like(table, dtype=torch.bool)
        evaluated[list(_NAMES)] = True
        table[~evaluated] = -1
    return table


class _Uids(NamedTuple):
    """Three numbers for every pixel of Panoptic Parts.

    :param sid: id of the class
    :param iid: number of the instance, −1 where there is none
    :param pid: number of the part, 0 where there is none
    """

    sid: Tensor
    iid: Tensor
    pid: Tensor


def _decode_uids(uids: Tensor) -> _Uids:
    """Take apart uids of 1 or 2 digits (sid), 4 or 5 (sid, iid) and 6 or 7 (sid, iid, pid); any shape."""
    has_part = uids >= 100_000
    has_instance = uids >= 1000
    whole = torch.where(has_part, uids // 100, uids)
    sid = torch.where(has_instance, whole // 1000, whole)
    iid = torch.where(has_instance, whole % 1000, torch.full_like(uids, -1))
    return _Uids(sid, iid, torch.where(has_part, uids % 100, torch.zeros_like(uids)))


def _part_of_sid_and_pid() -> Tensor:
    """The class of a part by id of its object and number of the part, int64 (34, 100); 0 is background."""
    table = torch.zeros(LAST_ID + 1, 100, dtype=torch.int64)
    for sid in _HUMANS:
        table[sid, 1 : 1 + len(_HUMAN_PARTS)] = torch.arange(len(_HUMAN_PARTS)) + 1
    for sid in _VEHICLES:
        table[sid, 1 : 1 + len(_VEHICLE_PARTS)] = torch.arange(len(_VEHICLE_PARTS)) + 1 + len(_HUMAN_PARTS)
    return table


def parts_of(uids: Tensor) -> Tensor:
    """The 10 classes of Auto-λ (Liu et al., TMLR 2022), int64 (H, W): no pixel is ignored, void is background."""
    found = _decode_uids(uids.long())
    return _part_of_sid_and_pid()[found.sid, found.pid]
