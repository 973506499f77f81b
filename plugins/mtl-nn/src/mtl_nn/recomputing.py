"""Levels of SegNet that keep what convolutions give, and compute norms and ReLUs again in the backward pass.

A norm and a ReLU cost little beside a convolution, and what they give is as large as what the convolution gave: about
half of a level's activations need not wait for the backward pass. :func:`torch.utils.checkpoint.checkpoint` ends a
recomputation as soon as it has what was asked for, so that no convolution runs again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

_Cheap = Callable[[Any], Any]


def run_recomputing(layers: nn.Module, x: Tensor, before: _Cheap | None = None, after: _Cheap | None = None) -> Any:
    """``after(layers(before(x)))``, with the same values and gradients.

    :param layers: convolution, norm and ReLU, once or several times
    :param before: computed again as well, such as an unpooling
    :param after: the same, such as a pooling
    """
    convolution, *rest = layers.children()
    x = convolution(x) if before is None else _run_keeping_input([before, convolution], x)
    for place in range(0, len(rest), 3):
        group = [*rest[place : place + 3]]
        x = _run_keeping_input(group if len(group) == 3 or after is None else [*group, after], x)
    return x


def _run_keeping_input(steps: Sequence[_Cheap], x: Tensor) -> Any:
    """The steps one after the other; for the backward pass only x is kept."""
    if not torch.is_grad_enabled():
        return _run(steps, x)
    norm = steps[0] if isinstance(steps[0], nn.Module) else nn.Identity()
    # nothing here draws random numbers
    return checkpoint(
        _run, steps, x, use_reentrant=False, preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), AveragesKept(norm)),
    )  # fmt: skip


def _run(steps: Sequence[_Cheap], x: Any) -> Any:
    for step in steps:
        x = step(x)
    return x


class AveragesKept:
    """A context in which batch norms in training mode normalise as always, without moving their running averages.

    Can be entered again and again, as every recomputation does.

    :param module: whose batch norms
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.before: list[tuple[_BatchNorm, dict[str, Tensor | None]]] = []

    def __enter__(self) -> None:
        layers = [m for m in self.module.modules() if isinstance(m, _BatchNorm)]
        moving = [layer for layer in layers if layer.training and layer.running_mean is not None]
        self.before = [(layer, dict(layer._buffers)) for layer in moving]
        for layer in moving:
            assert layer.running_mean is not None
            # others, not none: the graph has to save as many tensors as it did the first time
            layer.running_mean = torch.empty_like(layer.running_mean)
            layer.running_var = torch.empty_like(layer.running_mean)
            layer.num_batches_tracked = None

    def __exit__(self, *error: object) -> None:
        for layer, buffers in self.before:
            layer._buffers.update(buffers)
        self.before = []
