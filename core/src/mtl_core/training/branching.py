"""z once per head: one autograd function where all K branch gradients arrive together.

Shape letters: K tasks.

z passes through one :class:`torch.autograd.Function` that returns it once per head. Autograd calls its ``backward``
once, with all K branch gradients b_1 … b_K, before the encoder's own backward pass, so that a feature-level method
costs one backward pass and not K.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mtl_core.step.encoder_gradients import Branch
from mtl_core.step.step import Features

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
    # one application for all heads: autograd runs a function backwards once, when every output has its gradient
    flat = _Seam.apply(shape, scale, heads, *levels)
    per_head = [tuple(flat[k * len(levels) : (k + 1) * len(levels)]) for k in range(heads)]
    return [copies[0] for copies in per_head] if isinstance(z, Tensor) else list(per_head)


class _Seam(torch.autograd.Function):
    """z once per head forwards; the shaped sum of the branch gradients backwards."""

    @staticmethod
    def forward(ctx: Any, shape: Shaper, scale: LossScale, heads: int, *levels: Tensor) -> tuple[Tensor, ...]:
        # None for a branch that no loss reached: a tensor of zeros would hide that from the shaper, and cost memory
        ctx.set_materialize_grads(False)
        ctx.shape = shape
        ctx.scale = scale
        ctx.heads = heads
        ctx.levels = len(levels)
        # views, no copies: autograd needs an output of its own for each head, the values are shared
        return tuple(level.view_as(level) for _ in range(heads) for level in levels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        n = ctx.levels
        branches = tuple(tuple(gradients[k * n : (k + 1) * n]) for k in range(ctx.heads))
        shaped = ctx.shape(branches, ctx.scale.value)
        if isinstance(shaped, Tensor) and shaped.ndim == 1:
            shaped = weighted_sum(branches, shaped)
        levels = (shaped,) if isinstance(shaped, Tensor) else shaped
        # the encoder goes on with one gradient, as if there had been one head
        return None, None, None, *levels


class LossScale:
    """Remembers with what gradient the total loss was entered: fp16's loss scale, the accumulation divisor.

    ``recorded`` says that a backward pass has come through :meth:`apply`. Only the pass of the total loss does: a
    gradient that somebody takes before it, such as a penalty on ∂L/∂z, crosses the seam with ``recorded`` False.
    """

    def __init__(self) -> None:
        self.value: Tensor = torch.ones(())
        self.recorded = False

    def apply(self, total: Tensor) -> Tensor:
        """The same loss; in the backward pass its incoming gradient is recorded."""
        result: Tensor = _RecordScale.apply(total, self)
        return result


class _RecordScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, total: Tensor, scale: LossScale) -> Tensor:
        ctx.scale = scale
        # an output of its own, through which the backward pass has to come
        return total.view_as(total)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.scale.value = gradient
        ctx.scale.recorded = True
        return gradient, None


def weighted_sum(branches: tuple[Branch, ...], weights: Tensor) -> tuple[Tensor | None, ...]:
    """Σ_t weights_t · b_t for each level; None for a level that no head uses."""
    return tuple(_weighted_level(level, weights) for level in zip(*branches, strict=True))


def _weighted_level(level: tuple[Tensor | None, ...], weights: Tensor) -> Tensor | None:
    total = None
    dtype = None
    for weight, b in zip(weights.unbind(), level, strict=True):
        if b is None:
            continue
        # a weight of 1e5 is infinite in float16, though its product with a gradient of 1e-4 is not
        dtype = b.dtype
        exact = torch.promote_types(dtype, torch.float32)
        term = b.to(exact)
        weight = weight.to(exact)
        # added one at a time: K scaled copies at once would be the largest tensors of the step
        total = term * weight if total is None else total.addcmul_(term, weight)
    return None if total is None else total.to(dtype)
