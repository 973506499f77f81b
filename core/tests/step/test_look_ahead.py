"""Products of the tasks' gradients before a step."""

from __future__ import annotations

import torch
from torch import Tensor

from mtl_core import shared_gramian


class Quadratic:
    """Two losses, Σθ and Σθ²/2, of two shared parameters; a third loss that does not depend on them."""

    train_batch = None

    def __init__(self, **parameters: Tensor) -> None:
        self.shared = {name: value.requires_grad_() for name, value in parameters.items()}

    def parameters(self, heads: bool) -> dict[str, Tensor]:
        assert not heads
        return self.shared

    def losses(self, batch: object, parameters: dict[str, Tensor]) -> Tensor:
        theta = torch.cat([torch.zeros(1), *(value.flatten() for value in parameters.values())])
        return torch.stack([theta.sum(), theta.square().sum() / 2, torch.ones((), requires_grad=True) * 1])


def test_it_is_the_product_of_the_rows_of_gradients() -> None:
    look = Quadratic(a=torch.tensor([1.0, 2.0]), b=torch.tensor([[3.0]]))
    expected = torch.tensor([[3.0, 6.0, 0.0], [6.0, 14.0, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(shared_gramian(look), expected)  # type: ignore[arg-type]


def test_a_frozen_encoder_has_no_gradient() -> None:
    assert shared_gramian(Quadratic()).tolist() == [[0.0] * 3] * 3  # type: ignore[arg-type]
