"""What every data set keeps to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mtl_core.testing import DatasetContract
from mtl_pascal_context import PascalContext


class TestSqueezed(DatasetContract):
    @pytest.fixture
    def plugin(self, tree: Path) -> PascalContext:
        return PascalContext(root=str(tree), size=(48, 64))


class TestPadded(DatasetContract):
    @pytest.fixture
    def plugin(self, tree: Path) -> PascalContext:
        return PascalContext(root=str(tree), size=(40, 36), resize="pad", normals_axes=("x", "y", "z"))


class TestShrunk(DatasetContract):
    @pytest.fixture
    def plugin(self, tree: Path) -> PascalContext:
        return PascalContext(root=str(tree), size=(16, 16), tasks=("edges", "parts"), loss_weights="none", cache=False)


class TestOnlyATestSplit(DatasetContract):
    splits = ("test",)

    @pytest.fixture
    def plugin(self, tree: Path) -> PascalContext:
        (tree / "ImageSets" / "Context" / "train.txt").unlink()
        for folder in ("JPEGImages", "human_parts", "normals_distill", "sal_distill", "pascal-context/trainval"):
            (tree / folder / "2008_000002").with_suffix(next((tree / folder).iterdir()).suffix).unlink()
        return PascalContext(root=str(tree), size=(24, 32))


class TestInTheOuterFolder(DatasetContract):
    @pytest.fixture(params=["PASCAL_MT", "PASCALContext"])
    def plugin(self, request: pytest.FixtureRequest, tree: Path, tmp_path: Path) -> PascalContext:
        shutil.move(tree, tmp_path / "unpacked" / request.param)
        return PascalContext(root=str(tmp_path / "unpacked"), size=(24, 32))
