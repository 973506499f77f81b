"""What every data set keeps to, in both forms of NYU-v2."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mtl_core.testing import DatasetContract
from mtl_nyuv2 import NYUv2


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
        return NYUv2(root=str(arrays))


class TestArraysResized(DatasetContract):
    @pytest.fixture
    def plugin(self, arrays: Path) -> NYUv2:
        return NYUv2(root=str(arrays), size=(30, 20), tasks=("normals", "segmentation", "depth"))


class TestOnlyATestSplit(DatasetContract):
    splits = ("test",)

    @pytest.fixture(params=["pictures", "arrays"])
    def plugin(self, request: pytest.FixtureRequest) -> NYUv2:
        root: Path = request.getfixturevalue(request.param)
        shutil.rmtree(root / "train")
        return NYUv2(root=str(root))
