"""Miniature trees in the published layouts."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

H = 24
W = 24

Layout = Literal["buildings", "archives", "one", "omnidata", "domains"]
View = tuple[str, int, int]
"""Building, point, view."""

FILE_NAMES = {"segment_semantic": "segmentsemantic"}
"""Folders whose files are called otherwise."""
FOLDERS = (
    "rgb", "segment_semantic", "depth_zbuffer", "normal", "edge_occlusion", "reshading", "keypoints2d", "edge_texture",
    "depth_euclidean", "keypoints3d", "principal_curvature", "mask_valid",
)  # fmt: skip
VIEWS: list[View] = [
    ("hanson", 0, 0), ("hanson", 0, 1), ("hanson", 2, 0), ("hanson", 10, 3), ("merom", 0, 0), ("merom", 7, 2),
    ("ihlen", 0, 0), ("ihlen", 1, 4), ("darden", 5, 5),
]  # fmt: skip
"""Buildings of tiny's training, test and validation data."""


def draw(view: View, folder: str) -> NDArray[Any]:
    """What a file holds, in the published number of bits and channels. The first two rows have no geometry."""
    rng = np.random.default_rng(zlib.crc32(f"{view}{folder}".encode()))
    sixteen = {"edge_occlusion": 5000, "keypoints2d": 1200, "edge_texture": 9000, "keypoints3d": 58000}
    if folder in ("depth_zbuffer", "depth_euclidean"):
        depth = rng.integers(510, 9000, size=(H, W)).astype(np.uint16)
        depth[:2] = 65535
        return depth
    if folder in sixteen:
        return rng.integers(sixteen[folder], size=(H, W)).astype(np.uint16)
    if folder == "segment_semantic":
        return rng.integers(18, size=(H, W), dtype=np.uint8)
    if folder == "mask_valid":
        return np.where(np.arange(H)[:, None] < 2, 0, 255).repeat(W, 1).astype(np.uint8)
    if folder == "normal":
        vectors = rng.normal(size=(H, W, 3)) * 0.3 - (0, 0, 1)
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        coded = np.round(vectors * 127.5 + 127.5).astype(np.uint8)
        coded[:2] = 128
        return coded
    if folder == "reshading":
        return rng.integers(256, size=(H, W, 1), dtype=np.uint8).repeat(3, -1)
    return rng.integers(256, size=(H, W, 3), dtype=np.uint8)


def folder_of(root: Path, layout: Layout, building: str, folder: str) -> Path:
    return {
        "buildings": root / building / folder,
        "archives": root / building / f"{building}_{folder}" / folder,
        "one": root / folder,
        "omnidata": root / folder / "taskonomy" / building,
        "domains": root / folder / building,
    }[layout]


def file_of(root: Path, layout: Layout, view: View, folder: str) -> Path:
    building, point, number = view
    name = f"point_{point}_view_{number}_domain_{FILE_NAMES.get(folder, folder)}.png"
    return folder_of(root, layout, building, folder) / name


def write(root: Path, layout: Layout, views: list[View] = VIEWS, folders: tuple[str, ...] = FOLDERS) -> Path:
    for view in views:
        for folder in folders:
            path = file_of(root, layout, view, folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw(view, folder)).save(path)
    return root


def age(root: Path) -> None:
    """Make every folder look as if it had not changed for an hour."""
    for folder, _, _ in os.walk(root):
        os.utime(folder, ns=(0, os.stat(folder).st_mtime_ns - 3_600_000_000_000))


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches the user's cache."""
    monkeypatch.setenv("MTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Four buildings, every domain."""
    return write(tmp_path / "tree", "buildings")


@pytest.fixture(scope="session")
def trees() -> SimpleNamespace:
    """What makes trees, for tests that change one."""
    return SimpleNamespace(
        size=(H, W), views=VIEWS, folders=FOLDERS, draw=draw, folder=folder_of, file=file_of, write=write, age=age
    )


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of one view's real files."""
    data = Path(os.environ.get("MTL_DATA", Path(__file__).parents[4] / "shared" / "data"))
    if not (data / "samples" / "taskonomy").is_dir():
        pytest.skip("no Taskonomy: set MTL_DATA to a folder with samples/taskonomy/")
    return data / "samples" / "taskonomy"
