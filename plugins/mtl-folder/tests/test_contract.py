"""What every data set keeps to, for labels per pixel and per image."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from mtl_core.testing import DatasetContract
from mtl_folder import Folder


class TestDense(DatasetContract):
    @pytest.fixture
    def plugin(self, dense: Any) -> Folder:
        return Folder(root=str(dense.root))


class TestDenseResized(DatasetContract):
    @pytest.fixture
    def plugin(self, dense: Any) -> Folder:
        return Folder(root=str(dense.root), size=(10, 14), cache=False)


class TestSomeLabelsMissing(DatasetContract):
    @pytest.fixture
    def plugin(self, dense: Any) -> Folder:
        for name in ("0000", "0003", "0005"):
            (dense.root / "depth" / f"{name}.png").unlink()
        return Folder(root=str(dense.root))


class TestTable(DatasetContract):
    @pytest.fixture
    def plugin(self, table: Any) -> Folder:
        return Folder(root=str(table.root))


class TestDescribedInTheExperiment(DatasetContract):
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    @pytest.fixture
    def plugin(self, dense: Any) -> Folder:
        (dense.root / "mtl-folder.toml").unlink()
        return Folder(
            root=str(dense.root),
            images="images",
            splits={"val": 0.25, "test": 0.25},
            tasks={"heat": {"kind": "regression", "files": "heat"}},
        )
