"""PCGrad of all gradients at once, against torchjd's of two at a time."""

import pytest
import torch
from torchjd.aggregation import PCGradWeighting

from mtl_torchjd.pcgrad import _projected_weights


@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("dimension", [2, 5, 100])
def test_weights_are_those_of_torchjd(tasks: int, dimension: int) -> None:
    torch.manual_seed(tasks)
    rows = torch.randn(tasks, dimension, dtype=torch.float64)
    torch.manual_seed(1)
    expected = PCGradWeighting()(rows @ rows.T)
    torch.manual_seed(1)
    found = _projected_weights(rows @ rows.T)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    if tasks > 2 and dimension == 2:
        assert not expected.allclose(torch.ones_like(expected)), "some gradients of this case oppose each other"
