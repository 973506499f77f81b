"""What every regularizer keeps to, with MTPSL's options."""

from typing import Any

import pytest

from mtl_core.testing import RegularizerContract
from mtl_mtpsl import MTPSL

OPTIONS: list[dict[str, Any]] = [
    {},
    {"tasks": ("depth", "segmentation"), "bottleneck": 16, "width": 2},
]


class TestMTPSL(RegularizerContract):
    image_size = (32, 64)
    width = 2

    @pytest.fixture(params=OPTIONS, ids=str)
    def plugin(self, request: pytest.FixtureRequest) -> MTPSL:
        return MTPSL(**request.param)


class TestBesideATaskPerImage(RegularizerContract):
    image_size = (32, 64)
    width = 2
    task_names = ("segmentation", "normals", "edges", "shading", "scene")

    @pytest.fixture
    def plugin(self) -> MTPSL:
        return MTPSL(tasks=("segmentation", "normals", "edges", "shading"))
