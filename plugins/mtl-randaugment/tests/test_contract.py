"""What every transformation and augmentation keeps to."""

import pytest

from mtl_core.testing import AugmentContract, TransformContract
from mtl_randaugment import Geometry, RandAugment


class TestGeometry(TransformContract):
    task_names = ("segmentation", "depth", "normals", "edges", "shading", "scene")

    @pytest.fixture
    def plugin(self) -> Geometry:
        return Geometry()


class TestGeometryWithRotation(TransformContract):
    @pytest.fixture
    def plugin(self) -> Geometry:
        return Geometry(rotation=20.0)


class TestGeometryWithPadding(TransformContract):
    task_names = ("segmentation", "depth", "normals", "edges", "shading", "scene")

    @pytest.fixture
    def plugin(self) -> Geometry:
        return Geometry(scales=(1.0,), padding=6)


class TestPerImageTasksAlone(TransformContract):
    task_names = ("scene",)
    image_size = (32, 32)

    @pytest.fixture
    def plugin(self) -> Geometry:
        return Geometry(scales=(1.0,), padding=4)


class TestRandAugment(AugmentContract):
    @pytest.fixture
    def plugin(self) -> RandAugment:
        return RandAugment()
