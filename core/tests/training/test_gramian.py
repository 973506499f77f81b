"""Inner products of branch gradients, against explicit rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mtl_core import seam
from mtl_core.training.gramian import _by_blocks, _by_pairs


def inputs() -> Tensor:
    return torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_half_precision_does_not_overflow() -> None:
    big = torch.full((4096,), 60000.0, dtype=torch.float16)
    found = seam.gramian(((big,), (-big,)), torch.tensor(65536.0))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[0, 1], -torch.tensor(4096 * (60000.0 / 65536) ** 2), rtol=1e-3, atol=0)


def test_branches_may_lie_in_memory_in_different_orders() -> None:
    one = torch.randn(2, 3, 4, 5)
    other = torch.randn(2, 3, 4, 5)
    expected = torch.stack([one.flatten(), other.flatten()])
    for first, second in ((one, other.contiguous(memory_format=torch.channels_last)), (other, one)):
        rows = ((first.contiguous(memory_format=torch.channels_last),), (second,))
        found = seam.gramian(rows, torch.ones(()))
        wanted = expected if first is one else expected.flip(0)
        torch.testing.assert_close(found, wanted @ wanted.T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_pairs_and_blocks_come_to_the_same(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs on a CPU, blocks on an accelerator."""
    monkeypatch.setattr("mtl_core.training.gramian._BLOCK", 7)
    rows = list(torch.randn(3, 50).to(dtype))
    exact = torch.promote_types(dtype, torch.float32)
    wanted = torch.stack(rows).to(exact) / 2 @ (torch.stack(rows).to(exact) / 2).T
    for products in (_by_pairs, _by_blocks):
        found = products(rows, exact, torch.tensor(2.0))
        assert found.dtype == exact
        torch.testing.assert_close(found, wanted)


def test_parameter_gramian_equals_explicit_parameter_gradients() -> None:
    """A pyramid of two levels, heads that use one of them, a branch that nothing reached."""
    torch.manual_seed(0)
    first = nn.Linear(4, 6).double()
    second = nn.Linear(6, 3).double()
    low = first(inputs()).tanh()
    z = (low, second(low))
    parameters = [*first.parameters(), *second.parameters()]

    def values(low: Tensor, high: Tensor) -> list[Tensor]:
        return [low.square().mean(), (low.sum(1) * high.sum(1)).mean(), high.abs().mean()]

    leaves = [level.detach().requires_grad_() for level in z]
    branches = tuple(torch.autograd.grad(v, leaves, allow_unused=True) for v in values(*leaves))
    found = seam.parameter_gramian((*branches, (None, None)), z, parameters, torch.tensor(2.0))

    rows = [torch.autograd.grad(v, parameters, retain_graph=True, allow_unused=True) for v in values(*z)]
    flat = [
        torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(r, parameters, strict=True)])
        for r in rows
    ]
    explicit = torch.stack([*flat, torch.zeros_like(flat[0])])
    torch.testing.assert_close(found, explicit @ explicit.mT / 4, rtol=1e-10, atol=1e-14)
