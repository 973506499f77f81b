"""What every data set keeps to, in every published form of Cityscapes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mtl_cityscapes import Cityscapes
from mtl_core.testing import DatasetContract

THREE = ("segmentation", "parts", "depth")


class TestOfficial(DatasetContract):
    @pytest.fixture(params=["disparity", "metres", "published"])
    def plugin(self, request: pytest.FixtureRequest, trees: Path) -> Cityscapes:
        return Cityscapes(root=str(trees / "official"), tasks=THREE, depth=request.param, max_depth=None)


class TestOfficialResized(DatasetContract):
    @pytest.fixture
    def plugin(self, trees: Path) -> Cityscapes:
        return Cityscapes(
            root=str(trees / "outer"), tasks=("depth", "segmentation"), classes=7, size=(20, 30), cache=False
        )


class TestLabelsThatAreMissing(DatasetContract):
    """One image has no disparity, another no camera and no parts."""

    @pytest.fixture
    def plugin(self, official: Path) -> Cityscapes:
        for kind, ending, number in (("disparity", "disparity.png", 0), ("camera", "camera.json", 2)):
            (official / kind / "train" / "aachen" / f"aachen_{(0, 2, 10)[number]:06}_000019_{ending}").unlink()
        (official / "gtFinePanopticParts/train/aachen/aachen_000010_000019_gtFinePanopticParts.tif").unlink()
        return Cityscapes(root=str(official), tasks=THREE, depth="metres")


class TestMtan(DatasetContract):
    @pytest.fixture(params=[7, 19])
    def plugin(self, request: pytest.FixtureRequest, trees: Path) -> Cityscapes:
        return Cityscapes(root=str(trees / "mtan"), classes=request.param, depth="published", zoom="mtan")


class TestRepacked(DatasetContract):
    @pytest.fixture
    def plugin(self, trees: Path) -> Cityscapes:
        return Cityscapes(root=str(trees / "dataset" / "cityscapes"), tasks=THREE)


class TestAdaShare(DatasetContract):
    @pytest.fixture
    def plugin(self, trees: Path) -> Cityscapes:
        return Cityscapes(root=str(trees / "adashare"), classes=7, size=(16, 32))


class TestOnlyATestSplit(DatasetContract):
    splits = ("test",)

    @pytest.fixture(params=["official", "mtan", "repacked"])
    def plugin(self, request: pytest.FixtureRequest) -> Cityscapes:
        root: Path = request.getfixturevalue(request.param)
        for path in [root / "train", *root.glob("*/train")]:
            shutil.rmtree(path, ignore_errors=True)
        return Cityscapes(root=str(root))
