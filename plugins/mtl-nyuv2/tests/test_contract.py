"""What every data set keeps to, in both forms of NYU-v2, on small files written here."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl_core.testing import DatasetContract
from mtl_nyuv2 import NYUv2

H, W = 12, 16


def write_pictures(folder: Path, name: str, draw: np.random.Generator) -> None:
    normal = draw.integers(0, 256, (H, W, 3))
    normal[:2] = 0
    depth = draw.integers(500, 9000, (H, W)) * (draw.random((H, W)) > 0.2)
    arrays = {
        "image": draw.integers(0, 256, (H, W, 3)).astype(np.uint8),
        "label": draw.integers(0, 14, (H, W)).astype(np.uint8),
        "depth": depth.astype(np.uint16),
        "normal": normal.astype(np.uint8),
    }
    for kind, array in arrays.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / kind / f"{name}.png")


def write_arrays(folder: Path, name: str, draw: np.random.Generator) -> None:
    arrays = {
        "image": draw.random((H, W, 3)),
        "label": draw.integers(-1, 13, (H, W)),
        "depth": draw.random((H, W, 1)) * 9 * (draw.random((H, W, 1)) > 0.2),
        "normal": draw.normal(size=(H, W, 3)),
    }
    for kind, array in arrays.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        np.save(folder / kind / f"{name}.npy", array)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split, names in {"train": "0 1 2", "test": "0 2"}.items():
        for name in names.split():
            write_pictures(root / split, f"000{name}", draw)
    return root


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, draw = tmp_path_factory.mktemp("arrays"), np.random.default_rng(0)
    for split, names in {"train": "0 1 10", "val": "0 1"}.items():
        for name in names.split():
            write_arrays(root / split, name, draw)
    return root


class TestPictures(DatasetContract):
    @pytest.fixture
    def plugin(self, pictures: Path) -> NYUv2:
        return NYUv2(root=str(pictures))


class TestPicturesResized(DatasetContract):
    @pytest.fixture
    def plugin(self, pictures: Path) -> NYUv2:
        return NYUv2(root=str(pictures), size=(9, 20), cache=False)


class TestArrays(DatasetContract):
    @pytest.fixture
    def plugin(self, arrays: Path) -> NYUv2:
        return NYUv2(root=str(arrays), size=(9, 20), tasks=("normals", "segmentation", "depth"))


class TestOnlyATestSplit(DatasetContract):
    splits = ("test",)

    @pytest.fixture
    def plugin(self, pictures: Path, tmp_path: Path) -> NYUv2:
        (tmp_path / "test").symlink_to(pictures / "test")
        return NYUv2(root=str(tmp_path))
