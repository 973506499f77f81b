"""What every data set keeps to."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtl_cifar100 import CIFAR100
from mtl_core.testing import DatasetContract


class TestCIFAR100(DatasetContract):
    looked_at = 100  # each domain has a label in one image of twenty

    @pytest.fixture
    def plugin(self, folder: Path) -> CIFAR100:
        return CIFAR100(root=str(folder))


class TestTheFolderAround(DatasetContract):
    looked_at = 100

    @pytest.fixture
    def plugin(self, folder: Path) -> CIFAR100:
        return CIFAR100(root=str(folder.parent))


class TestOnlyATestSplit(DatasetContract):
    splits = ("test",)
    looked_at = 100

    @pytest.fixture
    def plugin(self, folder: Path) -> CIFAR100:
        (folder / "train").unlink()
        (folder / "meta").unlink()
        return CIFAR100(root=str(folder))
