"""The seam: the boundary between the shared features z and the heads, where each task's gradient arrives separately.

Shape letters: K tasks, D entries of z (all levels of a pyramid together).

z passes through one :class:`torch.autograd.Function` that returns it once per head. Autograd calls its ``backward``
once, with all K branch gradients b_1 … b_K, before the encoder's own backward pass, so that a feature-level method
costs one backward pass and not K.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
import torch.distributed as dist
from torch import Tensor

from mtl_core.step import Features, Step
from mtl_core.tasks import Tasks

Branch = tuple[Tensor | None, ...]
"""One task's gradient at z, a tensor per level; None where nothing reached it."""

BLOCK = 1 << 22
"""Entries of a row that one matrix product takes."""


@attrs.frozen(eq=False)
class Shaped:
    """What a gradient shaper decides.

    :param weights: (K,), b = Σ_t weights_t · b_t enters the encoder; or the shaped gradient itself, like z
    :param state: buffer name → proposed value; kept only if the Gramian is finite and the optimizer step is taken
    """

    weights: Features
    state: Mapping[str, Tensor] = attrs.field(factory=dict)


@attrs.define(eq=False)
class EncoderGradients:
    """The K gradients where they enter the encoder, as a method needs them.

    ``gramian`` (K, K): ⟨b_i, b_j⟩ over the global batch, loss scale divided out, at least float32; ``norms`` (K,);
    ``active`` bool (K,): labelled in the global batch; ``reached`` bool (K,): the branch is not zero; ``losses`` and
    ``means`` (K,): L_t and L̄_t; ``decoder_weights`` (K,): ∂total/∂L_t; ``branches``: this rank's gradients, undivided,
    for element-wise methods; ``step``: the step they belong to (None outside the framework).
    """

    tasks: Tasks
    gramian: Tensor
    active: Tensor
    losses: Tensor
    means: Tensor
    decoder_weights: Tensor
    branches: tuple[Branch, ...] = ()
    step: Step | None = None

    @property
    def norms(self) -> Tensor:
        return self.gramian.diagonal().clamp(min=0).sqrt()

    @property
    def reached(self) -> Tensor:
        # != and not >: a NaN row was reached, and must stay visible
        return self.gramian.diagonal() != 0


Shaper = Callable[[tuple[Branch, ...], Tensor], Features]
"""(branches, loss scale) → weights (K,) or a tensor like z."""


def branch(z: Features, heads: int, shape: Shaper, scale: LossScale) -> list[Features]:
    """Pass z through the seam.

    :param z: shared features, one tensor or a tuple of them
    :param heads: how many branches, K
    :param shape: called once in the backward pass
    :param scale: where the loss scale is recorded; apply it to the total loss
    :return: z, once per head
    """
    levels = (z,) if isinstance(z, Tensor) else tuple(z)
    flat = SeamFunction.apply(shape, scale, heads, *levels)
    per_head = [tuple(flat[k * len(levels) : (k + 1) * len(levels)]) for k in range(heads)]
    return [copies[0] for copies in per_head] if isinstance(z, Tensor) else list(per_head)


class SeamFunction(torch.autograd.Function):
    """z once per head forwards; the shaped sum of the branch gradients backwards."""

    @staticmethod
    def forward(ctx: Any, shape: Shaper, scale: LossScale, heads: int, *levels: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.shape, ctx.scale, ctx.heads, ctx.levels = shape, scale, heads, len(levels)
        return tuple(level.view_as(level) for _ in range(heads) for level in levels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        n = ctx.levels
        branches = tuple(tuple(gradients[k * n : (k + 1) * n]) for k in range(ctx.heads))
        shaped = ctx.shape(branches, ctx.scale.value)
        if isinstance(shaped, Tensor) and shaped.ndim == 1:
            shaped = weighted_sum(branches, shaped)
        levels = (shaped,) if isinstance(shaped, Tensor) else shaped
        return None, None, None, *levels


class LossScale:
    """Remembers with what gradient the total loss was entered: fp16's loss scale, the accumulation divisor."""

    def __init__(self) -> None:
        self.value: Tensor = torch.ones(())

    def apply(self, total: Tensor) -> Tensor:
        """The same loss; in the backward pass its incoming gradient is recorded."""
        result: Tensor = RecordScale.apply(total, self)
        return result


class RecordScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, total: Tensor, scale: LossScale) -> Tensor:
        ctx.scale = scale
        return total.view_as(total)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.scale.value = gradient
        return gradient, None


def weighted_sum(branches: tuple[Branch, ...], weights: Tensor) -> tuple[Tensor | None, ...]:
    """Σ_t weights_t · b_t for each level; None for a level that no head uses."""
    return tuple(weighted_level(level, weights) for level in zip(*branches, strict=True))


def weighted_level(level: tuple[Tensor | None, ...], weights: Tensor) -> Tensor | None:
    total: Tensor | None = None
    for weight, b in zip(weights.unbind(), level, strict=True):
        if b is not None:
            weight = weight.to(b.dtype)
            total = b * weight if total is None else total.addcmul_(b, weight)
    return total


def gramian(branches: tuple[Branch, ...], scale: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Inner products of the branch gradients over the global batch.

    On W ranks z's gradient is the concatenation of the ranks' gradients divided by W (DDP averages), so that
    G = Σ_ranks G_local / W²: exact, with K² numbers sent.

    :param branches: this rank's K branches; None counts as zero
    :param scale: loss scale, divided out
    :param group: a process group of the seam's own, so that DDP's collectives cannot be confused with it
    :return: (K, K), float32 or better
    """
    levels = [level_products(level, scale) for level in zip(*branches, strict=True)]
    found = [products for products in levels if products is not None]
    nothing = torch.zeros(len(branches), len(branches), device=scale.device)
    result = torch.stack(found).sum(0) if found else nothing
    if group is not None:
        dist.all_reduce(result, group=group)
        result = result / dist.get_world_size(group) ** 2
    return result


def parameter_gramian(
    branches: tuple[Branch, ...],
    z: Features,
    parameters: Sequence[Tensor],
    scale: Tensor,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Inner products of the tasks' gradients of the encoder's parameters, by one encoder pass for each branch.

    The encoder's backward pass is linear in what enters it: weights found from these products and put on the branches
    give the weighted sum of the parameters' gradients. The ranks' gradients (K, P) are averaged first, because a
    product of averages is not an average of products.

    :param z: shared features, with the graph that leads back to the parameters
    :param parameters: of the encoder, P numbers together
    :return: (K, K), float32 or better
    """
    levels = (z,) if isinstance(z, Tensor) else z
    rows = torch.stack([parameter_gradient(b, levels, parameters) for b in branches])
    if group is not None:
        dist.all_reduce(rows, group=group)
        rows = rows / dist.get_world_size(group)
    return rows @ rows.mT / scale.to(rows.dtype) ** 2


def parameter_gradient(b: Branch, levels: Sequence[Tensor], parameters: Sequence[Tensor]) -> Tensor:
    """One branch through the encoder: (P,), float32 or better."""
    reached = [(level, gradient) for level, gradient in zip(levels, b, strict=True) if gradient is not None]
    found: Sequence[Tensor | None] = [None] * len(parameters)
    if reached:
        outputs, incoming = zip(*reached, strict=True)
        found = torch.autograd.grad(outputs, parameters, incoming, retain_graph=True, allow_unused=True)
    flat = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
    return torch.cat([g.flatten().to(torch.promote_types(g.dtype, torch.float32)) for g in flat])


def level_products(level: tuple[Tensor | None, ...], scale: Tensor) -> Tensor | None:
    """One level's part of the Gramian, (K, K); None where no branch reached the level."""
    reached = [b for b in level if b is not None]
    if not reached:
        return None
    products = inner_products(flattened(reached), scale)
    if len(reached) == len(level):
        return products
    places = {k: place for place, k in enumerate(k for k, b in enumerate(level) if b is not None)}
    both = [(places.get(i), places.get(j)) for i in range(len(level)) for j in range(len(level))]
    zero = torch.zeros_like(products[0, 0])
    return torch.stack([zero if a is None or b is None else products[a, b] for a, b in both]).view(len(level), -1)


def flattened(branches: Sequence[Tensor]) -> list[Tensor]:
    """Each branch as (D,), all in the order in which the first lies in memory, so that channels-last needs no copy."""
    order = sorted(range(branches[0].ndim), key=branches[0].stride, reverse=True)
    return [b.permute(order).reshape(-1) for b in branches]


def inner_products(rows: Sequence[Tensor], scale: Tensor) -> Tensor:
    """Products of every two of the rows, each (D,), with the loss scale divided out: float32 or better.

    Half precision is divided by the scale first; its products could overflow.
    """
    dtype = torch.promote_types(rows[0].dtype, torch.float32)
    half, scale = rows[0].dtype in (torch.float16, torch.bfloat16), scale.to(dtype)
    divisor = scale if half else None
    result = by_pairs(rows, dtype, divisor) if rows[0].device.type == "cpu" else by_blocks(rows, dtype, divisor)
    return result if half else result / scale**2


def by_pairs(rows: Sequence[Tensor], dtype: torch.dtype, divisor: Tensor | None) -> Tensor:
    """One product for each pair: on a CPU the fastest, since a row stays in the cache."""
    whole = [row.to(dtype) if divisor is None else row.to(dtype) / divisor for row in rows]
    lower = {(i, j): a.dot(whole[j]) for i, a in enumerate(whole) for j in range(i + 1)}
    every = [lower[max(i, j), min(i, j)] for i in range(len(rows)) for j in range(len(rows))]
    return torch.stack(every).view(len(rows), len(rows))


def by_blocks(rows: Sequence[Tensor], dtype: torch.dtype, divisor: Tensor | None) -> Tensor:
    """Matrix products over blocks: on an accelerator two launches a block and not one a pair, and no copy of all rows.

    Where a user allows TF32 for matrix products, the entries are rounded to it, and the result is their Gramian.
    """
    result = torch.zeros(len(rows), len(rows), dtype=dtype, device=rows[0].device)
    for parts in zip(*(torch.split(row, BLOCK) for row in rows), strict=True):
        block = torch.stack(parts).to(dtype)
        block = block if divisor is None else block / divisor
        result.addmm_(block, block.mT)
    return result
