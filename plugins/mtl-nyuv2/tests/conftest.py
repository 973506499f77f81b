"""Small folders of both forms, with the same values in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

H = 24
W = 32

Raw = dict[str, NDArray[Any]]


def draw(index: int) -> Raw:
    """What the picture files of a sample hold."""
    rng = np.random.default_rng(index)
    normal = rng.normal(size=(H, W, 3)) * 0.3 - (0, 0, 1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    coded = np.round(normal * 127 + 128).astype(np.uint8)
    coded[:2] = 0
    return {
        "image": rng.integers(256, size=(H, W, 3), dtype=np.uint8),
        "label": rng.integers(14, size=(H, W), dtype=np.uint8),
        "depth": (rng.integers(700, 9000, size=(H, W)) * (np.arange(W) > 2)).astype(np.uint16),
        "normal": coded,
    }


def as_arrays(raw: Raw) -> Raw:
    """The same values as the array layout has them."""
    known = raw["normal"].any(-1, keepdims=True)
    return {
        "image": raw["image"].astype(np.float32) / 255,
        "label": raw["label"].astype(np.float32) - 1,
        "depth": raw["depth"].astype(np.float32)[..., None] / 1000,
        "normal": np.where(known, (raw["normal"].astype(np.float32) - 128) / 127, np.float32(0)),
    }


def write(root: Path, split: str, names: list[str], arrays: bool) -> None:
    for index, name in enumerate(names):
        raw = draw(index + 100 * (split != "train"))
        for kind, values in (as_arrays(raw) if arrays else raw).items():
            (root / split / kind).mkdir(parents=True, exist_ok=True)
            if arrays:
                np.save(root / split / kind / f"{name}.npy", values)
            else:
                Image.fromarray(values).save(root / split / kind / f"{name}.png")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Decoded samples are kept in a folder of the test's own."""
    monkeypatch.setenv("MTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def raw() -> Callable[[int], Raw]:
    """Sample i of the training split, as picture files hold it."""
    return draw


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A root of the image layout: three training and two test images."""
    root = tmp_path / "pictures"
    write(root, "train", ["0000", "0001", "0002"], arrays=False)
    write(root, "test", ["0000", "0002"], arrays=False)
    return root


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """A root of the array layout with the same values, and names that sort by number only."""
    root = tmp_path / "arrays"
    write(root, "train", ["0", "2", "10"], arrays=True)
    write(root, "val", ["0", "1"], arrays=True)
    return root


@pytest.fixture(scope="session")
def real() -> Path:
    folder = Path(os.environ.get("MTL_DATA", Path(__file__).parents[4] / "shared" / "data")) / "nyuv2"
    if not folder.is_dir():
        pytest.skip("no NYU-v2: set MTL_DATA to a folder with nyuv2/")
    return folder
