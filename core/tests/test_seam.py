"""The seam by itself: z, heads and a weighting of anybody's, without an experiment or a plugin."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtl_core import seam


def test_everything_that_it_names_is_there() -> None:
    assert all(getattr(seam, name) is not None for name in seam.__all__)


def test_a_loop_of_ones_own_gives_the_encoder_the_weighted_sum() -> None:
    torch.manual_seed(0)
    encoder, heads = nn.Linear(4, 6), nn.ModuleList(nn.Linear(6, 1) for _ in range(2))
    x = torch.randn(8, 4)
    weights = torch.tensor([0.25, 2.0])
    seen: list[Tensor] = []

    def shape(branches: tuple[seam.Branch, ...], scale: Tensor) -> Tensor:
        seen.append(seam.gramian(branches, scale))
        return weights

    scale = seam.LossScale()
    features = seam.branch(encoder(x), len(heads), shape, scale)
    losses = [head(z).square().mean() for head, z in zip(heads, features, strict=True)]
    scale.apply(torch.stack(losses).sum()).backward()
    plain = [w * head(encoder(x)).square().mean() for w, head in zip(weights, heads, strict=True)]
    expected = torch.autograd.grad(torch.stack(plain).sum(), [*encoder.parameters()])
    for parameter, gradient in zip(encoder.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    (gramian,) = seen
    assert gramian.shape == (2, 2)
    torch.testing.assert_close(gramian, gramian.T)


def test_the_weighted_sum_of_branches_by_hand() -> None:
    branches = ((torch.ones(2), None), (torch.full((2,), 3.0), None))
    first, second = seam.weighted_sum(branches, torch.tensor([2.0, 10.0]))
    assert first is not None
    assert first.tolist() == [32, 32]
    assert second is None
