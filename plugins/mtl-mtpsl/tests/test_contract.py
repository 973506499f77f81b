"""What every regularizer keeps to, with MTPSL's options."""

from typing import Any

import pytest

from mtl_core.testing import RegularizerContract, WindowsContract
from mtl_mtpsl import MTPSL

OPTIONS: list[dict[str, Any]] = [
    {},
    {"variant": "released"},
    {"tasks": ("depth", "segmentation"), "bottleneck": 16, "width": 2, "segmentation_as": "samples"},
]


class TestMTPSL(RegularizerContract):
    image_size = (32, 64)
    width = 2

    @pytest.fixture(params=OPTIONS, ids=str)
    def plugin(self, request: pytest.FixtureRequest) -> MTPSL:
        return MTPSL(**request.param)


class TestBesideATaskPerImage(RegularizerContract):
    image_size = (32, 32)
    width = 2
    task_names = ("segmentation", "edges", "scene", "shading")

    @pytest.fixture
    def plugin(self) -> MTPSL:
        return MTPSL(tasks=("segmentation", "edges", "shading"))


class TestWindows(WindowsContract):
    @pytest.fixture
    def plugin(self) -> MTPSL:
        return MTPSL(variant="released")
