"""Half precision becomes float32; what is exact already stays."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from mtl_core import at_least_float32
from mtl_core.tasks.precision import constant


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(half: torch.dtype) -> None:
    found = at_least_float32(torch.full((2,), 3.0, dtype=half))
    assert found.dtype == torch.float32
    assert found.tolist() == [3, 3]


@pytest.mark.parametrize("exact", [torch.float32, torch.float64])
def test_others_are_not_copied(exact: torch.dtype) -> None:
    values = torch.rand(3, dtype=exact)
    assert at_least_float32(values) is values


def test_a_constant_is_made_once_and_none_of_a_fake_mode_stays() -> None:
    with FakeTensorMode(), torch.device("cpu"):
        made = constant(3.25, torch.device("cpu"))
        assert isinstance(made, FakeTensor)
    real = constant(3.25, torch.device("cpu"))
    assert type(real) is torch.Tensor
    assert constant(3.25, torch.device("cpu")) is real
    with FakeTensorMode(allow_non_fake_inputs=False):
        assert isinstance(torch.rand(2) + constant(3.25, torch.device("cpu")), FakeTensor)
