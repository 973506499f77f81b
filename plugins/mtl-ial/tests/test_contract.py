"""What every loss rule, regularizer and gradient shaper keeps to."""

import pytest
from torch import Tensor

from mtl_core import hookimpl, plugin
from mtl_core.testing import GradientShaperContract, LossRuleContract, RegularizerContract
from mtl_ial import IAL


@plugin
class Sum:
    """Adds the losses up."""

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses.sum()


class TestShaper(GradientShaperContract):
    @pytest.fixture
    def plugin(self) -> IAL:
        return IAL(primary="segmentation")


class TestShaperWithSeveralPrimaries(GradientShaperContract):
    @pytest.fixture
    def plugin(self) -> IAL:
        return IAL(primary=("segmentation", "normals"), mapping="softplus", sigma_learning_rate=1e-3)


class TestLossRule(LossRuleContract):
    @pytest.fixture
    def plugin(self) -> IAL:
        return IAL(primary="depth")


class TestBesideAnotherRule(RegularizerContract):
    beside = {"sum": Sum()}
    use = {"combine_losses": "sum"}

    @pytest.fixture
    def plugin(self) -> IAL:
        return IAL(primary="depth")


class TestAsRegularizerOfItsOwn(RegularizerContract):
    adds_nothing = True

    @pytest.fixture
    def plugin(self) -> IAL:
        return IAL(primary="depth")
