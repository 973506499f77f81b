"""What every regularizer keeps to, with each of JTR's options."""

from typing import Any

import pytest

from mtl_core.testing import RegularizerContract, WindowsContract
from mtl_jtr import JTR

OPTIONS: list[dict[str, Any]] = [
    {},
    {"reconstruct": False, "distance": "l1", "per_location": True},
    {"train_encoder_on": "reconstruction", "unpool": "upsample", "distance": "l2", "centred": True},
    {"variant": "released"},
    {"segmentation_as": "samples", "reconstruction_as": "counts", "validity": "shared", "unlabelled": "consistency"},
    {"network": "averages"},
    {"target": "fixed", "masked": 0.4, "ramp": 0.3},
    {"network": "smooth", "substitutes": "ema", "c_pseudo": 0.1, "masked": 0.4},
    {"checkpoint": True},
    {"checkpoint": True, "variant": "released"},
    {"unlabelled": "consistency", "tasks": ("depth", "segmentation"), "bottleneck": 16, "width": 2},
]


class TestJTR(RegularizerContract):
    image_size = (32, 32)
    width = 2

    @pytest.fixture(params=OPTIONS, ids=str)
    def plugin(self, request: pytest.FixtureRequest) -> JTR:
        return JTR(**request.param)


class TestBesideATaskPerImage(RegularizerContract):
    image_size = (32, 32)
    width = 2
    task_names = ("segmentation", "normals", "edges", "shading", "scene")

    @pytest.fixture
    def plugin(self) -> JTR:
        return JTR(tasks=("segmentation", "normals", "edges", "shading"))


class TestReleasedBesideATaskPerImage(RegularizerContract):
    image_size = (32, 32)
    width = 2
    task_names = ("segmentation", "normals", "edges", "shading", "scene")

    @pytest.fixture
    def plugin(self) -> JTR:
        return JTR(variant="released", tasks=("segmentation", "normals", "edges", "shading"))


class TestWindows(WindowsContract):
    image_size = (32, 32)
    width = 2

    @pytest.fixture
    def plugin(self) -> JTR:
        return JTR(variant="released")
