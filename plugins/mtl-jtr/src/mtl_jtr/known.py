"""Gradients that are taken inside the forward pass and enter the graph later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SCALE = 2.0**13
"""Such gradients are kept this much larger, so that half precision holds them; a power of two: exact in the others."""


def gradients_now(value: Tensor, inputs: Sequence[Tensor], retain_graph: bool = False) -> tuple[Tensor, ...]:
    """SCALE · ∂value/∂inputs, and nothing else: no ``.grad`` is written and no hook of DDP is called.

    :param retain_graph: keep what the graph of ``value`` holds, for the backward pass proper
    """
    return torch.autograd.grad(SCALE * value, list(inputs), retain_graph=retain_graph)


def with_gradients(value: Tensor, inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """``value`` (a scalar), through which ``inputs`` receive the gradients that :func:`gradients_now` gave."""
    result: Tensor = Known.apply(value.detach(), tuple(gradients), *inputs)
    return result


class Known(torch.autograd.Function):
    """value + Σ ⟨input, gradient⟩ − its own value: linear in the inputs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: tuple[Tensor, ...], *inputs: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
        share = incoming / SCALE
        return None, None, *(gradient * share for gradient in ctx.gradients)
