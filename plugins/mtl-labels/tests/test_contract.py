"""What every label scenario keeps to."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtl_core.testing import LabelMaskContract
from mtl_labels import Full, HalfLabels, OneLabel, RandomLabels, SplitFile, Unlabelled

DRAWN = [
    OneLabel(),
    RandomLabels(),
    HalfLabels(),
    Unlabelled(),
    Unlabelled(share=0.9, rest="halflabels"),
    Unlabelled(rest="full"),
]


class TestDrawn(LabelMaskContract):
    @pytest.fixture(params=DRAWN, ids=repr)
    def plugin(self, request: pytest.FixtureRequest) -> Any:
        return request.param


class TestFull(LabelMaskContract):
    random = False

    @pytest.fixture
    def plugin(self) -> Full:
        return Full()


class TestSplitFile(LabelMaskContract):
    random = False
    sizes = (4,)
    counts = (3,)

    @pytest.fixture
    def plugin(self, tmp_path: Path) -> SplitFile:
        np.save(tmp_path / "split.npy", np.eye(3)[[0, 1, 2, 0]])
        return SplitFile(path=str(tmp_path / "split.npy"))
