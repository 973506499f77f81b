"""Validation at an epoch's end, with the batch-norm statistics that the checkpoint will hold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice

import lightning_fabric
from torch import Tensor

from mtl_core.seeds import generator_for, seed_torch
from mtl_core.training.batch_norm import batch_norms, reestimate
from mtl_core.training.buffers import broadcast_buffers
from mtl_core.training.evaluation import evaluate
from mtl_core.training.health import Health
from mtl_core.training.loaders import Loaders
from mtl_core.training.session import Session
from mtl_core.training.wrapped import Wrapped


class Validation:
    """Validates the network of a run, after its batch norm has the statistics to be evaluated with.

    :param health: reports where batch norm's statistics do not fit the validation data
    """

    def __init__(
        self, session: Session, fabric: lightning_fabric.Fabric, wrapped: Wrapped, data: Loaders, health: Health
    ) -> None:
        self._experiment = session.experiment
        self._fabric = fabric
        self._wrapped = wrapped
        self._data = data
        self._health = health

    def settle_statistics(self, epoch: int) -> None:
        """Give every rank the statistics that the checkpoint will hold, re-estimated if the experiment says so."""
        # DDP copies rank 0's buffers before a forward pass, not after the last one: ranks would validate with their own
        broadcast_buffers(list(self._wrapped.step.buffers()), self._wrapped.group)
        if self._wrapped.ema is not None:
            # the average is no part of the module that DDP wraps
            broadcast_buffers(list(self._wrapped.ema.network.buffers()), self._wrapped.group)
        if self._experiment.batch_norm == "reestimated" and batch_norms(self._wrapped.evaluated):
            with self._fabric.autocast():
                reestimate(self._wrapped.evaluated, self.training_images(epoch), self._wrapped.group)

    def training_images(self, epoch: int) -> Iterator[Tensor]:
        """Images of an epoch's first batches, (V·B, 3, H, W), as the network saw them in training."""
        rank = self._fabric.global_rank
        seed = self._experiment.seed
        seed_torch(self._fabric.device, seed, "batch norm", epoch, rank)
        self._data.order.go(epoch)
        for number, batch in enumerate(islice(self._data.training, self._experiment.batch_norm_batches)):
            generator = generator_for(seed, "batch norm", epoch, number, rank)
            images, _ = self._wrapped.step.views_of(batch.images, generator)
            yield images.flatten(0, 1)

    def measure(self, epoch: int, record: Mapping[str, float]) -> dict[str, float]:
        """Validation metrics and losses, as ``metrics.jsonl`` names them.

        :param record: the epoch's means, with the training losses
        """
        data = self._data.validation
        if data is None:
            return {}
        network = self._wrapped.evaluated
        device = self._fabric.device
        found = evaluate(network, data, device, self._fabric.autocast)
        trained = {name: record.get(f"train/loss/{name}", math.nan) for name in network.tasks.names}
        if self._compares_statistics(epoch) and self._health.is_suspicious(trained, found.losses):
            several = (batch for batch in data if len(batch.images) > 1)  # one sample alone has no variance
            by_batch = evaluate(network, several, device, self._fabric.autocast, by_batch=True)
            self._health.look_at_statistics(by_batch.losses, found.losses)
        metrics = {f"val/{name}": value for name, value in found.metrics.items()}
        return metrics | {f"validation/loss/{name}": value for name, value in found.losses.items()}

    def _compares_statistics(self, epoch: int) -> bool:
        """At the epochs 1, 2, 4, 8 … and the last: the comparison takes a second pass over the validation data."""
        done = epoch + 1
        # a power of two has one bit set
        now = done & (done - 1) == 0 or done == self._experiment.epochs
        return now and bool(batch_norms(self._wrapped.step.network))
