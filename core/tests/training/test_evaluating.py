"""Evaluation mode for a while."""

from __future__ import annotations

import pytest
from torch import nn

from mtl_core.training.evaluating import evaluating


def test_each_module_comes_back_in_its_own_mode() -> None:
    one, two = nn.Sequential(nn.Dropout()), nn.Dropout().eval()
    with evaluating(one, two):
        assert not one.training
        assert not one[0].training
        assert not two.training
    assert one.training
    assert one[0].training
    assert not two.training


def test_an_error_does_not_leave_a_module_in_evaluation_mode() -> None:
    module = nn.Dropout()
    with pytest.raises(ValueError, match="no"), evaluating(module):
        raise ValueError("no")
    assert module.training
