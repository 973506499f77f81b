"""The seam against explicit per-task backward passes."""

import pytest
import torch
from torch import Tensor, nn

from mtl_core import Features, seam
from mtl_core.training.gramian import _by_blocks, _by_pairs

K = 3


def network(pyramid: bool = False) -> tuple[nn.Module, nn.ModuleList]:
    torch.manual_seed(0)
    return nn.Linear(4, 6).double(), nn.ModuleList(nn.Linear(6, 2).double() for _ in range(K))


def inputs() -> Tensor:
    return torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def explicit_branches(encoder: nn.Module, heads: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """Each head's gradient at z, by a backward pass of its own."""
    z = encoder(x)
    return [torch.autograd.grad((k + 1) * h(z).square().mean(), z, retain_graph=True)[0] for k, h in enumerate(heads)]


def losses(heads: nn.ModuleList, branches: list[Features]) -> Tensor:
    return torch.stack([(k + 1) * h(z).square().mean() for k, (h, z) in enumerate(zip(heads, branches, strict=True))])


def test_gramian_and_weighted_sum_equal_explicit_backward_passes() -> None:
    encoder, heads = network()
    x = inputs()
    weights = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    seen = {}

    def shape(branches: tuple[seam.Branch, ...], scale: Tensor) -> Tensor:
        seen["gramian"] = seam.gramian(branches, scale)
        return weights

    scale = seam.LossScale()
    total = losses(heads, seam.branch(encoder(x), K, shape, scale)).sum()
    scale.apply(total).backward()

    explicit = explicit_branches(encoder, heads, x)
    flat = torch.stack([b.flatten() for b in explicit])
    torch.testing.assert_close(seen["gramian"], flat @ flat.T, rtol=1e-12, atol=0)
    shaped = sum(w * b for w, b in zip(weights, explicit, strict=True))
    expected = torch.autograd.grad(encoder(x), encoder.weight, shaped)[0]
    torch.testing.assert_close(encoder.weight.grad, expected, rtol=1e-12, atol=0)


def test_heads_are_not_touched_by_the_weights() -> None:
    encoder, heads = network()
    scale = seam.LossScale()
    total = losses(heads, seam.branch(encoder(inputs()), K, lambda b, s: torch.zeros(K).double(), scale)).sum()
    scale.apply(total).backward()
    plain = losses(heads, [encoder(inputs())] * K).sum()
    for head, expected in zip(heads, torch.autograd.grad(plain, [h.weight for h in heads]), strict=True):
        torch.testing.assert_close(head.weight.grad, expected)
    assert encoder.weight.grad.abs().max() == 0


@pytest.mark.parametrize("factor", [1.0, 65536.0, 0.25])
def test_loss_scale_is_divided_out(factor: float) -> None:
    encoder, heads = network()
    seen: list[Tensor] = []

    def shape(branches: tuple[seam.Branch, ...], scale: Tensor) -> Tensor:
        seen.append(seam.gramian(branches, scale))
        return torch.ones(K, dtype=torch.float64)

    for f in (1.0, factor):
        scale = seam.LossScale()
        total = scale.apply(losses(heads, seam.branch(encoder(inputs()), K, shape, scale)).sum())
        (total * f).backward()
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-12, atol=0)


def test_half_precision_does_not_overflow() -> None:
    big = torch.full((4096,), 60000.0, dtype=torch.float16)
    found = seam.gramian(((big,), (-big,)), torch.tensor(65536.0))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[0, 1], -torch.tensor(4096 * (60000.0 / 65536) ** 2), rtol=1e-3, atol=0)


def test_a_branch_that_nothing_reached_is_a_zero_row() -> None:
    z = torch.randn(3, 2, requires_grad=True)
    seen = {}

    def shape(branches: tuple[seam.Branch, ...], scale: Tensor) -> Tensor:
        assert branches[1] == (None,)
        seen["gramian"] = seam.gramian(branches, scale)
        return torch.ones(2)

    first, _ = seam.branch(z, 2, shape, seam.LossScale())
    first.square().sum().backward()
    assert seen["gramian"][1].eq(0).all()
    assert seen["gramian"][0, 1] == 0
    torch.testing.assert_close(z.grad, 2 * z.detach())


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


def test_pyramids_add_up_over_levels_and_unused_levels_stay_without_gradient() -> None:
    levels = tuple(torch.randn(2, n, requires_grad=True) for n in (3, 4, 5))
    seen = {}

    def shape(branches: tuple[seam.Branch, ...], scale: Tensor) -> Tensor:
        seen["gramian"] = seam.gramian(branches, scale)
        return torch.tensor([1.0, 3.0])

    a, b = seam.branch(levels, 2, shape, seam.LossScale())
    (a[0].sum() + 2 * a[1].sum() + b[1].sum()).backward()
    torch.testing.assert_close(seen["gramian"], torch.tensor([[6 + 4 * 8.0, 16.0], [16.0, 8.0]]))
    torch.testing.assert_close(levels[1].grad, torch.full((2, 4), 5.0))
    assert levels[2].grad is None


def test_a_tensor_like_z_is_taken_as_the_gradient_itself() -> None:
    z = torch.randn(3, 2, requires_grad=True)
    a, b = seam.branch(z, 2, lambda branches, scale: torch.full((3, 2), 7.0), seam.LossScale())
    (a.sum() + b.sum()).backward()
    assert z.grad.eq(7).all()


def test_non_finite_gradients_stay_non_finite() -> None:
    z = torch.ones(2, requires_grad=True)
    a, b = seam.branch(z, 2, lambda branches, scale: torch.ones(2), seam.LossScale())
    (a.sum() + (b * float("nan")).sum()).backward()
    assert z.grad.isnan().all()


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


def test_the_level_decides_what_a_shaper_sees_and_the_weights_act_on_parameters_alike() -> None:
    """With weights from the parameters' Gramian, the encoder receives the weighted sum of the parameters' gradients."""
    encoder, heads = network()
    x = inputs()
    weights = torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64)
    z = encoder(x)
    seen = {}

    def shape(branches: tuple[seam.Branch, ...], scale: Tensor) -> Tensor:
        seen["gramian"] = seam.parameter_gramian(branches, z, list(encoder.parameters()), scale)
        return weights

    scale = seam.LossScale()
    scale.apply(losses(heads, seam.branch(z, K, shape, scale)).sum()).backward()
    explicit = [
        torch.cat([g.flatten() for g in torch.autograd.grad(encoder(x), list(encoder.parameters()), b)])
        for b in explicit_branches(encoder, heads, x)
    ]
    rows = torch.stack(explicit)
    torch.testing.assert_close(seen["gramian"], rows @ rows.T, rtol=1e-12, atol=0)
    found = torch.cat([p.grad.flatten() for p in encoder.parameters()])
    torch.testing.assert_close(found, (weights[:, None] * rows).sum(0), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_weight_beyond_half_precision_multiplies_in_float32(dtype: torch.dtype) -> None:
    """1e5 is infinite in float16, and 1e5 · 1e-4 is 10; bfloat16 would round 1.001 to 1."""
    branches = ((torch.full((2,), 1e-4, dtype=dtype),), (torch.full((2,), 1.0, dtype=dtype),))
    (level,) = seam.weighted_sum(branches, torch.tensor([1e5, 1.001]))
    assert level.dtype == dtype
    expected = 1e5 * float(branches[0][0][0]) + 1.001
    torch.testing.assert_close(level, torch.full((2,), expected, dtype=dtype), rtol=0, atol=0)
