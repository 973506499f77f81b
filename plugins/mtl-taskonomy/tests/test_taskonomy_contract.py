"""What every data set keeps to, in each layout."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from mtl_core.testing import DatasetContract
from mtl_taskonomy import Taskonomy
from mtl_taskonomy.domains import TASKS


class TestBuildings(DatasetContract):
    splits = ("train", "val", "test")

    @pytest.fixture
    def plugin(self, tree: Path) -> Taskonomy:
        return Taskonomy(root=str(tree), incomplete=True)


class TestEveryDomainResized(DatasetContract):
    @pytest.fixture(params=["archives", "omnidata", "domains"])
    def plugin(self, request: pytest.FixtureRequest, tmp_path: Path, trees: SimpleNamespace) -> Taskonomy:
        root = trees.write(tmp_path / "tree", request.param)
        return Taskonomy(root=str(root), incomplete=True, tasks=TASKS, size=(10, 16))


class TestStandley(DatasetContract):
    @pytest.fixture
    def plugin(self, tree: Path) -> Taskonomy:
        return Taskonomy(
            root=str(tree), incomplete=True, tasks=TASKS, convention="standley", depth="standley", max_depth=16.0
        )


class TestOneBuilding(DatasetContract):
    splits = ("train",)

    @pytest.fixture
    def plugin(self, tmp_path: Path, trees: SimpleNamespace) -> Taskonomy:
        views = [view for view in trees.views if view[0] == "hanson"]
        root = trees.write(tmp_path / "hanson", "one", views)
        return Taskonomy(root=str(root), incomplete=True, depth="log", mask="mask_valid")


class TestMissingLabels(DatasetContract):
    """Every view lacks some label; one lacks all."""

    @pytest.fixture
    def plugin(self, tree: Path, trees: SimpleNamespace) -> Taskonomy:
        for number, view in enumerate(trees.views):
            trees.file(tree, "buildings", view, trees.folders[1 + number % 7]).unlink()
        for folder in trees.folders[1:]:
            trees.file(tree, "buildings", trees.views[1], folder).unlink(missing_ok=True)
        return Taskonomy(root=str(tree), incomplete=True)
