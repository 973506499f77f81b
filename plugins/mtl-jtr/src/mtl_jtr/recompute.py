"""g's encoder without stored activations: the backward pass encodes again, a stage at a time (option ``checkpoint``).

:func:`torch.utils.checkpoint.checkpoint` would run every stage twice more: for the distance's gradient at the stack,
and for g's own. Here both come of one further run: two gradients go down side by side, the distance's, which computes
no weight gradients and ends in the stack, and the sum of all, which ends in θ1. With a node for each stage, Ŷ's weight
gradients are added to Y's as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import get_device_states, set_device_states

from mtl_nn import AveragesKept


@attrs.frozen(eq=False)
class Stage:
    """A part of g's encoder.

    :param run: activations → those after this part, and what the decoder needs of it, without gradient
    :param module: that it runs; its batch norms move their running averages once
    :param parameters: of it, a part of θ1
    :param random: whether it may draw random numbers
    """

    run: Callable[[Tensor], tuple[Tensor, tuple[Any, ...]]]
    module: nn.Module
    parameters: Sequence[nn.Parameter]
    random: bool


def encoded(stages: Sequence[Stage], stack: Tensor, distance_trains_g: bool) -> tuple[Tensor, Tensor, list[Any]]:
    """The latent's features twice, with the same values, for the distance and for the reconstruction.

    Gradients of the first reach the stack, and θ1 where the distance trains g; gradients of the second reach θ1 alone.

    :param stack: (B, O, H, W), with the way back to the predictions, if the distance has one
    :return: features, features, and what each stage leaves for the decoder
    """
    of_distance, of_all = stack, stack.detach()
    left: list[Any] = []
    for stage in stages:
        again = _Again(stage, stack)
        with torch.no_grad(), again.without_cast_cache():
            after, rest = stage.run(of_all.detach())
        of_distance, of_all = _Staged.apply(again, after, of_distance, of_all, *stage.parameters)
        left += rest
    distance, reconstruction = _Split.apply(distance_trains_g, of_distance, of_all)
    return distance, reconstruction, left


class _Split(torch.autograd.Function):
    """Two names of one latent; backwards the distance's gradient, and the sum of all that trains g."""

    @staticmethod
    def forward(ctx: Any, distance_trains_g: bool, of_distance: Tensor, of_all: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.distance_trains_g = distance_trains_g
        return of_distance.view_as(of_distance), of_all.view_as(of_all)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, distance: Tensor | None, reconstruction: Tensor | None) -> tuple[Tensor | None, ...]:
        if not ctx.distance_trains_g or distance is None:
            return None, distance, reconstruction
        return None, distance, distance if reconstruction is None else distance + reconstruction


class _Staged(torch.autograd.Function):
    """A stage that has run before; runs again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, again: _Again, after: Tensor, of_distance: Tensor, of_all: Tensor, *parameters: nn.Parameter
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.again = again
        ctx.parameters = parameters
        ctx.save_for_backward(of_all)
        distance, everything = after.view_as(after), after.view_as(after)
        ends = [] if ctx.needs_input_grad[2] else [distance]
        ends += [] if any(ctx.needs_input_grad[3:]) else [everything]
        ctx.mark_non_differentiable(*ends)
        return distance, everything

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, distance: Tensor | None, everything: Tensor | None) -> tuple[Tensor | None, ...]:
        with torch.enable_grad(), ctx.again.as_before():
            before = ctx.saved_tensors[0].detach().requires_grad_()
            after = ctx.again.stage.run(before)[0]
        at_distance = None
        if distance is not None:
            # the graph stays for what follows
            (at_distance,) = torch.autograd.grad(after, before, distance, retain_graph=everything is not None)
        needed = ctx.needs_input_grad[3:]
        found: Iterator[Tensor | None] = iter(())
        if everything is not None:
            inputs = [x for x, wanted in zip((before, *ctx.parameters), needed, strict=True) if wanted]
            found = iter(torch.autograd.grad(after, inputs, everything, allow_unused=True))
        return None, None, at_distance, *(next(found, None) if wanted else None for wanted in needed)


class _Again:
    """Runs a stage as it ran the first time: the same random numbers, the same autocast, no running averages."""

    def __init__(self, stage: Stage, stack: Tensor) -> None:
        self.stage = stage
        self.kind = stack.device.type
        self.autocast = torch.amp.is_autocast_available(self.kind) and torch.is_autocast_enabled(self.kind)
        self.dtype = torch.get_autocast_dtype(self.kind) if self.autocast else None
        self.cpu_state = torch.get_rng_state() if stage.random else None
        self.devices, self.states = get_device_states(stack) if stage.random else ([], [])

    def without_cast_cache(self) -> Any:
        """Autocast as it is; weights that it casts without a graph must not be found by whoever needs theirs."""
        if not torch.amp.is_autocast_available(self.kind):
            return nullcontext()
        return torch.autocast(self.kind, dtype=self.dtype, enabled=self.autocast, cache_enabled=False)

    @contextmanager
    def as_before(self) -> Iterator[None]:
        with self._random_numbers(), AveragesKept(self.stage.module), self.without_cast_cache():
            yield

    @contextmanager
    def _random_numbers(self) -> Iterator[None]:
        if self.cpu_state is None:
            yield
            return
        # without devices of its own the name is of no account
        kind = self.kind if self.devices else "cuda"
        with torch.random.fork_rng(self.devices, device_type=kind):
            torch.set_rng_state(self.cpu_state)
            set_device_states(self.devices, self.states, device_type=kind)
            yield
