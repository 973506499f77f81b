"""What every data set keeps to."""

import pytest

from mtl_core.testing import DatasetContract
from mtl_scenes import Scenes


class TestThreeTasks(DatasetContract):
    @pytest.fixture
    def plugin(self) -> Scenes:
        return Scenes(size=(32, 48), train=4, test=4)


class TestEveryTask(DatasetContract):
    @pytest.fixture
    def plugin(self) -> Scenes:
        tasks = ("segmentation", "depth", "normals", "occlusion_edges", "texture_edges", "keypoints", "reshading")
        return Scenes(size=(32, 32), train=3, test=3, tasks=tasks, cache=False)


@pytest.mark.parametrize("difficulty", ["easy", "medium"], scope="class")
class TestOtherLevels(DatasetContract):
    @pytest.fixture
    def plugin(self, difficulty: str) -> Scenes:
        return Scenes(size=(32, 48), train=4, test=4, difficulty=difficulty)
