"""g's encoder without stored activations: the backward pass encodes again, a stage at a time (option ``checkpoint``).

A distance between latents and a reconstruction need different gradients: the distance's must reach the stack, and from
there the predictions; θ1 gets that of both. :func:`torch.utils.checkpoint.checkpoint` would run every stage twice more
to compute them. Here one further run serves both, because each stage's output has two names with the same values:

- ``to_stack``: its gradient is the distance's. It is handed down to the stack and computes no weight gradients.
- ``to_weights``: its gradient is the sum of all that trains g. It is handed down too, and gives θ1's gradients.

Each stage is one autograd node, so that θ1's gradients of Ŷ are added to those of Y as they come, stage by stage.

Shape letters: B samples, O channels of all tasks together, H and W image size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
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


def encode_without_storing(
    stages: Sequence[Stage], stack: Tensor, distance_trains_g: bool
) -> tuple[Tensor, Tensor, list[Any]]:
    """The latent's features under two names, with the same values: for the distance, and for the reconstruction.

    Gradients of the first reach the stack, and θ1 where the distance trains g; gradients of the second reach θ1 alone.

    :param stack: (B, O, H, W), with the way back to the predictions, if the distance has one
    :return: features, features, and what the stages give the decoder
    """
    to_stack = stack
    to_weights = stack.detach()
    for_decoder: list[Any] = []
    for stage in stages:
        rerun = _Rerun(stage, stack)
        with torch.no_grad(), rerun.without_cast_cache():
            output, given = stage.run(to_weights.detach())
        to_stack, to_weights = _RecomputedStage.apply(rerun, output, to_stack, to_weights, *stage.parameters)
        for_decoder += given
    of_distance, of_reconstruction = _Latent.apply(distance_trains_g, to_stack, to_weights)
    return of_distance, of_reconstruction, for_decoder


class _Latent(torch.autograd.Function):
    """The end of the encoder: (to_stack, to_weights) → (of the distance, of the reconstruction), the same values."""

    @staticmethod
    def forward(ctx: Any, distance_trains_g: bool, to_stack: Tensor, to_weights: Tensor) -> tuple[Tensor, Tensor]:
        # None where nothing was computed from a name: zeros would cost a backward pass through every stage
        ctx.set_materialize_grads(False)
        ctx.distance_trains_g = distance_trains_g
        return to_stack.view_as(to_stack), to_weights.view_as(to_weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, distance: Tensor | None, reconstruction: Tensor | None) -> tuple[Tensor | None, ...]:
        if not ctx.distance_trains_g or distance is None:
            return None, distance, reconstruction
        return None, distance, distance if reconstruction is None else distance + reconstruction


class _RecomputedStage(torch.autograd.Function):
    """A stage whose output is there already; the backward pass runs it again, for its activations."""

    @staticmethod
    def forward(
        ctx: Any, rerun: _Rerun, output: Tensor, to_stack: Tensor, to_weights: Tensor, *parameters: nn.Parameter
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.rerun = rerun
        ctx.parameters = parameters
        # all that is kept of the stage: its input
        ctx.save_for_backward(to_weights)
        # views, no copies: autograd needs two outputs that it can tell apart
        next_to_stack = output.view_as(output)
        next_to_weights = output.view_as(output)
        _, _, stack_learns, *weights_learn = ctx.needs_input_grad
        # an output that leads to nothing that learns must not require a gradient: its loss would seem to train g
        ends = [] if stack_learns else [next_to_stack]
        ends += [] if any(weights_learn) else [next_to_weights]
        ctx.mark_non_differentiable(*ends)
        return next_to_stack, next_to_weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_distance: Tensor | None, of_all: Tensor | None) -> tuple[Tensor | None, ...]:
        with torch.enable_grad(), ctx.rerun.as_before():
            before = ctx.saved_tensors[0].detach().requires_grad_()
            after = ctx.rerun.stage.run(before)[0]
        at_stack = None
        if of_distance is not None:
            # with respect to the input alone: no weight gradients; the second pass needs the graph again
            (at_stack,) = torch.autograd.grad(after, before, of_distance, retain_graph=of_all is not None)
        wanted = ctx.needs_input_grad[3:]
        at_weights = _gradients_where(wanted, after, (before, *ctx.parameters), of_all)
        return None, None, at_stack, *at_weights


def _gradients_where(
    wanted: Sequence[bool], output: Tensor, inputs: Sequence[Tensor], incoming: Tensor | None
) -> list[Tensor | None]:
    """The gradients of the inputs that are wanted, None for the others."""
    found: list[Tensor | None] = [None] * len(inputs)
    if incoming is None:
        return found
    places = [place for place, is_wanted in enumerate(wanted) if is_wanted]
    gradients = torch.autograd.grad(output, [inputs[place] for place in places], incoming, allow_unused=True)
    for place, gradient in zip(places, gradients, strict=True):
        found[place] = gradient
    return found


class _Rerun:
    """Runs a stage as it ran the first time: the same random numbers, the same autocast, no running averages."""

    def __init__(self, stage: Stage, stack: Tensor) -> None:
        self.stage = stage
        self.device_type = stack.device.type
        # autograd runs backward outside the autocast context of the forward pass
        available = torch.amp.is_autocast_available(self.device_type)
        self.autocast = available and torch.is_autocast_enabled(self.device_type)
        self.dtype = torch.get_autocast_dtype(self.device_type) if self.autocast else None
        self.cpu_state = torch.get_rng_state() if stage.random else None
        self.devices, self.device_states = get_device_states(stack) if stage.random else ([], [])

    def without_cast_cache(self) -> AbstractContextManager[Any]:
        """Autocast as it is, without its cache of cast weights.

        Weights that were cast under ``no_grad`` have no graph; whatever used them from the cache would train nothing.
        """
        if not torch.amp.is_autocast_available(self.device_type):
            return nullcontext()
        return torch.autocast(self.device_type, dtype=self.dtype, enabled=self.autocast, cache_enabled=False)

    @contextmanager
    def as_before(self) -> Iterator[None]:
        with self._random_numbers(), AveragesKept(self.stage.module), self.without_cast_cache():
            yield

    @contextmanager
    def _random_numbers(self) -> Iterator[None]:
        if self.cpu_state is None:
            yield
            return
        # without devices the name has no effect, except "meta": fork_rng would then not put the CPU's state back either
        device_type = self.device_type if self.devices else "cuda"
        with torch.random.fork_rng(self.devices, device_type=device_type):
            torch.set_rng_state(self.cpu_state)
            set_device_states(self.devices, self.device_states, device_type=device_type)
            yield
