"""Batch norm's statistics: what the network is evaluated with.

In training a batch is normalised by its own mean and variance; in evaluation by statistics that training kept. Where
batches are small, running averages follow the last few of them, and the two networks differ.

Shape letters: C channels of a layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mtl_core.tasks.precision import at_least_float32
from mtl_core.training.losses import summed


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """The layers that normalise by the batch in training, and by statistics of their own in evaluation."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    return [layer for layer in layers if layer.training and layer.running_mean is not None]


class _Moments:
    """Mean and mean square of what enters each layer, over many batches."""

    def __init__(self, layers: list[_BatchNorm], device: torch.device) -> None:
        # sums over millions of pixels; MPS has no float64
        self.dtype = torch.float32 if device.type == "mps" else torch.float64
        self.sums = [torch.zeros(2, layer.num_features, dtype=self.dtype, device=device) for layer in layers]
        # one for each sum: layers see different numbers of pixels, and ranks different numbers of batches
        self.counts = torch.zeros(len(layers), dtype=self.dtype, device=device)

    def note(self, place: int, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        """A forward pre-hook of the ``place``-th layer."""
        values: Tensor = inputs[0].detach()
        size = values.numel() // values.shape[1]
        others = [d for d in range(values.ndim) if d != 1]
        exact = at_least_float32(values)
        variance, mean = (moment.to(self.dtype) for moment in torch.var_mean(exact, others, correction=0))
        self.sums[place] += size * torch.stack((mean, variance + mean.square()))
        self.counts[place] += size

    def over(self, group: dist.ProcessGroup | None) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Count, mean (C,) and unbiased variance (C,) of each layer's inputs on all ranks."""
        flat = summed(torch.cat([self.counts, *(s.flatten() for s in self.sums)]), group)
        counts = flat[: len(self.counts)]
        rest = flat[len(self.counts) :]
        found = []
        for count, part in zip(counts, torch.split(rest, [s.numel() for s in self.sums]), strict=True):
            mean, square = part.view(2, -1) / count.clamp(min=1)
            # clamped: rounding makes the difference of two nearly equal numbers negative
            variance = (square - mean.square()).clamp(min=0) * count / (count - 1).clamp(min=1)
            found.append((count, mean, variance))
        return found


@torch.no_grad()
def reestimate(network: nn.Module, batches: Iterable[Tensor], group: dist.ProcessGroup | None = None) -> None:
    """Replace running averages by the statistics of many batches under the present weights.

    Every layer gets mean and variance of all that enters it while the layers before it normalise by the batch, as in
    training: Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021, Sec. 3 (precise BN). Statistics over the batches
    together, not the mean of the batches' variances, which is too small where batches are. A layer whose statistics are
    not finite, or that nothing entered, keeps its own.

    :param network: in training mode
    :param batches: images (N, 3, H, W) of this rank
    """
    layers = batch_norms(network)
    if not layers:
        return
    moments = _Moments(layers, next(network.parameters()).device)
    with ExitStack() as stack:
        for place, layer in enumerate(layers):
            handle = layer.register_forward_pre_hook(partial(moments.note, place))
            stack.callback(handle.remove)
        stack.enter_context(batch_statistics(layers))
        # a compiled module does not look at hooks that came later
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        for images in batches:
            network(images)
    for layer, (count, mean, variance) in zip(layers, moments.over(group), strict=True):
        assert layer.running_mean is not None
        assert layer.running_var is not None
        # a layer that saw nothing, or a NaN, keeps what training averaged
        usable = (count > 0) & mean.isfinite().all() & variance.isfinite().all()
        layer.running_mean.copy_(torch.where(usable, mean, layer.running_mean))
        layer.running_var.copy_(torch.where(usable, variance, layer.running_var))


@contextmanager
def batch_statistics(layers: Iterable[_BatchNorm]) -> Iterator[None]:
    """Let layers normalise by the batch, whatever the network's mode, without moving the statistics that they keep."""
    before = [(layer, layer.training, layer.track_running_stats) for layer in layers]
    for layer, _, _ in before:
        layer.training = True
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer, training, tracks in before:
            layer.training = training
            layer.track_running_stats = tracks
