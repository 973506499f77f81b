"""Gradients that are taken inside the forward pass and enter the graph later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_LARGEST = 2.0**13
"""The largest factor of early gradients; the loss scale that torch begins with is eight times as large."""


class EarlyScale(nn.Module):
    """How much early gradients are enlarged while they wait, so that float16 holds them.

    An eighth of the loss scale that the last backward pass came with. A gradient that overflows here makes the step one
    that is skipped; the loss scale falls, and this scale with it. A fixed one would overflow again in every step. In
    float32 and bfloat16, whose range is wide enough, it is 1.
    """

    def __init__(self) -> None:
        super().__init__()
        # not a buffer: where a step is skipped core puts buffers back, and that is when this has to change
        self.loss_scale = torch.tensor(8 * _LARGEST)

    def factor(self, device: torch.device) -> Tensor | float:
        """What a value is multiplied by before its early gradients are taken, in the present forward pass."""
        if not _autocasts_to_float16(device.type):
            return 1.0
        return (self.loss_scale.to(device) / 8).clamp(max=_LARGEST)

    def note(self, incoming: Tensor) -> None:
        """Remember the loss scale of a backward pass, divided by the number of batches if gradients accumulate."""
        self.loss_scale = incoming.detach().float()

    def get_extra_state(self) -> Tensor:
        return self.loss_scale

    def set_extra_state(self, state: Tensor) -> None:
        self.loss_scale = state


def _autocasts_to_float16(kind: str) -> bool:
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return False
    return torch.get_autocast_dtype(kind) == torch.float16


def gradients_now(
    value: Tensor, inputs: Sequence[Tensor], scale: EarlyScale, retain_graph: bool = False
) -> tuple[Tensor, ...]:
    """``scale`` · ∂value/∂inputs, and nothing else: no ``.grad`` is written and no hook of DDP is called.

    :param retain_graph: keep what the graph of ``value`` holds, for the backward pass proper
    """
    enlarged = scale.factor(value.device) * value
    return torch.autograd.grad(enlarged, list(inputs), retain_graph=retain_graph)


def with_gradients(
    value: Tensor, inputs: Sequence[Tensor], gradients: Sequence[Tensor], scale: EarlyScale, is_term: bool = False
) -> Tensor:
    """``value`` (a scalar), through which ``inputs`` receive the gradients that :func:`gradients_now` gave.

    :param is_term: the value enters the total loss with no further factor, so that its gradient is the loss scale
    """
    result: Tensor = _Linear.apply(value.detach(), tuple(gradients), scale, is_term, *inputs)
    return result


class _Linear(torch.autograd.Function):
    """value + Σ ⟨input, gradient⟩ − its own value: linear in the inputs."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, gradients: tuple[Tensor, ...], scale: EarlyScale, is_term: bool, *inputs: Tensor
    ) -> Tensor:
        # saved, so that autograd lets go of them when they have been handed on
        ctx.save_for_backward(*gradients)
        ctx.scale = scale
        ctx.is_term = is_term
        ctx.factor = scale.factor(value.device)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.is_term:
            ctx.scale.note(incoming)
        share = incoming / ctx.factor
        return None, None, None, None, *(gradient * share for gradient in ctx.saved_tensors)
