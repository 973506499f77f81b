"""The data that a run reads: training batches, validation batches, second batches for plugins that look ahead.

Shape letters: N training samples with all extra ones, K tasks.
"""

from __future__ import annotations

import logging
from typing import cast

import attrs
import lightning_fabric
import torch
from torch import Tensor

from mtl_core.data.datasets import BlankedDataset, Joined
from mtl_core.errors import MtlError
from mtl_core.step.look_ahead import Source
from mtl_core.training.loader import (
    Batches,
    BatchOrder,
    Extra,
    TrainingData,
    evaluation_loader,
    training_loader,
)
from mtl_core.training.second_batches import SecondBatches
from mtl_core.training.session import Session

_log = logging.getLogger("mtl")


@attrs.frozen(eq=False)
class Loaders:
    """The data that a run reads.

    :param training: batches on the device, in the order of ``order``
    :param order: of an epoch; it can begin anywhere
    :param labelled: label mask of everything that the training batches come from, bool (N, K)
    :param validation: this rank's part of the validation data; None where none is kept
    :param second: batches besides those that the network learns from
    """

    training: Batches
    order: BatchOrder
    labelled: Tensor
    validation: Batches | None
    second: SecondBatches

    @property
    def has_labels(self) -> bool:
        """Whether any training sample carries a label."""
        places = [self.order.indices, *(torch.as_tensor(extra.indices) for extra in self.order.extras)]
        return any(bool(self.labelled[indices].any()) for indices in places)


def open_loaders(session: Session, fabric: lightning_fabric.Fabric) -> Loaders:
    """The loaders of one run, of which every rank takes its part.

    :raises DataError: there are too few training samples for one batch
    """
    experiment = session.experiment
    rank = fabric.global_rank
    world = fabric.world_size
    pinned = fabric.device.type == "cuda"
    own = session.validation
    train, held = session.split()
    if experiment.best_on is not None and own is None and not held:
        raise MtlError(
            f"best_on = {experiment.best_on!r}: validation = {experiment.validation:g} keeps none of the"
            f" {len(session.dataset)} training samples for validation; raise validation, or leave best_on out"
        )
    kept, extras = _sources(session, train)
    order = BatchOrder(kept, experiment.batch_size, experiment.seed, rank, world, extras)
    parts = [BlankedDataset(session.dataset, session.labelled), *(extra for extra, _ in session.extras)]
    data = TrainingData(Joined(parts), session.hooks, experiment.seed)
    training = training_loader(data, order, experiment.workers, pinned)
    validation = None
    if own is not None:
        held = list(range(len(own)))
    if held:
        # the true labels: pseudo-labels of `relabel` would validate the network with what it learned from
        given = own or session.given
        validation = evaluation_loader(
            given.dataset, given.labelled, held, experiment.batch_size, rank, world, experiment.workers, pinned
        )
    places: dict[Source, list[int]] = {"training": kept, "validation": held}
    return Loaders(
        # the order is sharded by rank already; Fabric only moves the batches to the device
        training=cast("Batches", fabric.setup_dataloaders(training, use_distributed_sampler=False)),
        order=order,
        labelled=torch.cat([part.labelled for part in parts]),
        validation=validation,
        second=SecondBatches(
            data, places, experiment.batch_size, experiment.seed, experiment.workers, rank, world, own
        ),
    )


def _enough(bare: list[int], per_batch: int) -> bool:
    """Whether there are unlabelled samples to add to every batch.

    :raises MtlError: a batch would have one of them twice
    """
    if bare and len(bare) < per_batch:
        raise MtlError(
            f"unlabelled_per_batch = {per_batch}: only {len(bare)} training samples are without any label; lower it"
        )
    if not bare:
        _log.warning("unlabelled_per_batch = %d: every training sample has a label, and none is added", per_batch)
    return bool(bare)


def _sources(session: Session, train: list[int]) -> tuple[list[int], list[Extra]]:
    """The samples of an epoch, and further sources of which every batch has a fixed number."""
    experiment = session.experiment
    extras = list[Extra]()
    if experiment.drop_unlabelled or experiment.unlabelled_per_batch is not None:
        anything = session.labelled.any(1)[train].tolist()
        # they leave the epoch's order: as a further source, a fixed number of them is in every batch
        bare = [place for place, known in zip(train, anything, strict=True) if not known]
        train = [place for place, known in zip(train, anything, strict=True) if known]
        if experiment.unlabelled_per_batch and _enough(bare, experiment.unlabelled_per_batch):
            extras.append(Extra(bare, experiment.unlabelled_per_batch))
    # positions in the joined data, where further data sets come behind the main one
    first = len(session.dataset)
    for data, per_batch in session.extras:
        extras.append(Extra(range(first, first + len(data)), per_batch))
        first += len(data)
    return train, extras
