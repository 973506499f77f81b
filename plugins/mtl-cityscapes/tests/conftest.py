"""Miniature trees of every published form, with the same values in them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

H = 32
W = 64
TRAIN = ("aachen_000000_000019", "aachen_000002_000019", "aachen_000010_000019", "bochum_000000_000313")
VAL = ("frankfurt_000000_000294", "lindau_000001_000019")
BASELINE = 0.222126
FOCAL = 2268.36

UIDS = (
    0, 3, 7, 11, 23, 24, 26, 24001, 26013, 7000, 2400101, 2401204, 2500002, 2600101, 2799905, 2800003, 2400100, 3200001
)  # fmt: skip
"""Of 1, 2, 4, 5 and 7 digits; the last but one has the void part, the last a part of a class without parts."""
CLASS_19 = (-1,) * 7 + (
    0,
    1,
    -1,
    -1,
    2,
    3,
    4,
    -1,
    -1,
    -1,
    5,
    -1,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
    15,
    -1,
    -1,
    16,
    17,
    18,
)
"""Of ids 0 to 33, written out by hand."""
CLASS_7 = (-1,) * 7 + (0,) * 4 + (1,) * 6 + (2,) * 4 + (3,) * 2 + (4,) + (5,) * 2 + (6,) * 8

Raw = dict[str, NDArray[Any]]


def draw(name: str) -> Raw:
    """What the official files of a sample hold."""
    rng = np.random.default_rng([*name.encode()])
    raw = rng.integers(2, 32258, size=(H, W)).astype(np.uint16)
    raw[:2], raw[2:4] = 0, 1
    return {
        "image": rng.integers(256, size=(H, W, 3), dtype=np.uint8),
        "ids": rng.integers(34, size=(H, W), dtype=np.uint8),
        "raw": raw,
        "uids": rng.choice(np.array(UIDS, np.int32), size=(H, W)),
    }


def camera(name: str) -> dict[str, Any]:
    """A camera file; the cameras of two cities differ."""
    baseline = BASELINE if name.startswith("aachen") else 0.21
    extrinsic = {"baseline": baseline, "pitch": 0.05, "roll": 0.0, "x": 1.7, "y": -0.1, "yaw": 0.007, "z": 1.18}
    return {"extrinsic": extrinsic, "intrinsic": {"fx": FOCAL, "fy": 2225.54, "u0": 1048.64, "v0": 519.277}}


def save(values: NDArray[Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)


ARCHIVES = {
    "leftImg8bit": "leftImg8bit_trainvaltest", "gtFine": "gtFine_trainvaltest", "disparity": "disparity_trainvaltest",
    "camera": "camera_trainvaltest", "gtFinePanopticParts": "gtFinePanopticParts_trainval",
}  # fmt: skip


def place(root: Path, kind: str, split: str, name: str, ending: str, outer: bool) -> Path:
    base = root / ARCHIVES[kind] if outer else root
    return base / kind / split / name.split("_")[0] / f"{name}_{ending}"


def write_official(root: Path, outer: bool = False) -> Path:
    for split, names in (("train", TRAIN), ("val", VAL)):
        for name in names:
            raw = draw(name)
            save(raw["image"], place(root, "leftImg8bit", split, name, "leftImg8bit.png", outer))
            save(raw["ids"], place(root, "gtFine", split, name, "gtFine_labelIds.png", outer))
            save(raw["ids"].astype(np.uint16), place(root, "gtFine", split, name, "gtFine_instanceIds.png", outer))
            save(raw["raw"], place(root, "disparity", split, name, "disparity.png", outer))
            save(raw["uids"], place(root, "gtFinePanopticParts", split, name, "gtFinePanopticParts.tif", outer))
            file = place(root, "camera", split, name, "camera.json", outer)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(camera(name)), "utf-8")
    return root


def as_arrays(raw: Raw) -> Raw:
    """The same values as MTAN's folders have them."""
    return {
        "image": raw["image"].astype(np.float64) / 255,
        "label_7": np.array(CLASS_7, np.float64)[raw["ids"]],
        "label_19": np.array(CLASS_19, np.float64)[raw["ids"]],
        "depth": (raw["raw"].astype(np.float64) / 65535)[..., None].astype(np.float32),
    }


def write_mtan(root: Path) -> Path:
    for split, names in (("train", TRAIN), ("val", VAL)):
        for number, name in enumerate(names):
            for kind, values in as_arrays(draw(name)).items():
                save(values, root / split / kind / f"{number}.npy")
    return root


def write_repacked(root: Path) -> Path:
    for split, names in (("train", TRAIN), ("val", VAL)):
        for number, name in enumerate(names):
            raw = draw(name)
            kinds = {"image": "image.png", "seg": "ids.png", "depth": "raw.png", "part_seg": "uids.tif"}
            for folder, source in kinds.items():
                key, _, ending = source.partition(".")
                save(raw[key], root / split / folder / f"{number}.{ending}")
    return root


def write_adashare(root: Path) -> Path:
    lists = {}
    for split, names in (("train", TRAIN), ("test", VAL)):
        rows = []
        for name in names:
            arrays = as_arrays(draw(name))
            arrays["label_2"] = (arrays["label_7"] > 0).astype(np.float64)
            for kind, values in arrays.items():
                save(values, root / kind / f"{name}.npy")
            rows.append([f"{kind}/{name}.npy" for kind in ("image", "depth", "label_2", "label_7", "label_19")])
        lists[split] = rows
    (root / "cityscape.json").write_text(json.dumps(lists), "utf-8")
    return root


@pytest.fixture(scope="session")
def raw() -> Callable[[str], Raw]:
    """What the files of the sample of a name hold."""
    return draw


@pytest.fixture(scope="session")
def names() -> dict[str, Sequence[str]]:
    return {"train": TRAIN, "test": VAL}


@pytest.fixture(scope="session")
def tables() -> dict[int, NDArray[Any]]:
    """Number of classes → class of each id."""
    return {19: np.array(CLASS_19), 7: np.array(CLASS_7)}


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tree of every form, to be read alone: official, outer, mtan, dataset/cityscapes (Auto-λ's), adashare."""
    folder = tmp_path_factory.mktemp("trees")
    write_official(folder / "official")
    write_official(folder / "outer", outer=True)
    write_mtan(folder / "mtan")
    write_repacked(folder / "dataset" / "cityscapes")
    write_adashare(folder / "adashare")
    return folder


@pytest.fixture
def official(trees: Path, tmp_path: Path) -> Path:
    """A copy of its own, as the following ones."""
    return Path(shutil.copytree(trees / "official", tmp_path / "official"))


@pytest.fixture
def outer(trees: Path, tmp_path: Path) -> Path:
    """The official tree with the archives' names as outer folders."""
    return Path(shutil.copytree(trees / "outer", tmp_path / "outer"))


@pytest.fixture
def mtan(trees: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trees / "mtan", tmp_path / "mtan"))


@pytest.fixture
def repacked(trees: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trees / "dataset" / "cityscapes", tmp_path / "dataset" / "cityscapes"))


@pytest.fixture
def adashare(trees: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trees / "adashare", tmp_path / "adashare"))


@pytest.fixture(scope="session")
def data() -> Path:
    folder = Path(os.environ.get("MTL_DATA", Path(__file__).parents[4] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data: set MTL_DATA to a folder with samples/cityscapes and label-splits")
    return folder
