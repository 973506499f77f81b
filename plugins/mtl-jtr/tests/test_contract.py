"""What every regularizer keeps to."""

import pytest

from mtl_core.testing import RegularizerContract
from mtl_jtr import JTR


class TestJTR(RegularizerContract):
    @pytest.fixture
    def plugin(self) -> JTR:
        return JTR()
