"""Core's kinds of tasks keep the contract, and one whose head has other channels than its labels."""

import pytest

from mtl_core.tasks.regression import Depth
from mtl_core.tasks.task import Task
from mtl_core.testing import EXAMPLES, DepthInBins, TaskContract

KINDS = {**EXAMPLES, "bins": DepthInBins(name="bins"), "disparity": Depth(name="disparity", disparity=True)}


class TestKinds(TaskContract):
    @pytest.fixture(params=list(KINDS))
    def task(self, request: pytest.FixtureRequest) -> Task:
        return KINDS[request.param]
