"""The loader: samples in an order that (seed, epoch) fixes, sharded by rank, started anywhere.

Shape letters: B samples per rank, W ranks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from mtl_core.data.datasets import BlankedDataset, Joined
from mtl_core.data.sample import MultiTaskDataset, Sample, collate
from mtl_core.errors import DataError
from mtl_core.hooks.attribution import with_plugin_note
from mtl_core.hooks.relay import Hooks
from mtl_core.hooks.results import Answer
from mtl_core.seeds import generator_for

Batches = DataLoader[Any]
"""A loader that gives :class:`mtl_core.data.Batch`; torch types a loader by its data set's samples."""

Place = tuple[int, int]
"""(epoch, index): what a worker needs to seed a sample's transformation."""


class Extra(NamedTuple):
    """Samples of which every batch has a fixed number besides its own.

    :param indices: positions in the training data
    :param per_batch: on every rank
    """

    indices: Sequence[int]
    per_batch: int


class BatchOrder(Sampler[list[Place]]):
    """Batches of (epoch, index); every rank takes its slice of each global batch.

    The last, incomplete batch of an epoch is left out: every rank and every step sees B samples.

    :param indices: the training samples' positions in the data set
    :param batch: B, without the extra samples
    :param extras: further sources, each in an order of its own that begins again when it is through
    :raises DataError: there are fewer than B·W samples
    """

    def __init__(
        self,
        indices: Sequence[int],
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        extras: Sequence[Extra] = (),
    ) -> None:
        self.indices = torch.as_tensor(indices)
        self.extras = list(extras)
        self.batch = batch
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0
        self.start = 0
        self._order: tuple[int, list[int]] = (-1, [])
        if len(self) == 0:
            raise DataError(
                f"{len(indices)} training samples do not fill one batch of {batch} on {world} device(s);"
                " lower batch_size or validation"
            )

    def __len__(self) -> int:
        return len(self.indices) // (self.batch * self.world)

    def go(self, epoch: int, start: int = 0) -> None:
        """Go on at batch ``start`` of an epoch."""
        self.epoch = epoch
        self.start = start

    def __iter__(self) -> Iterator[list[Place]]:
        return (self.places(step, self.rank) for step in range(self.start, len(self)))

    def places(self, step: int, rank: int) -> list[Place]:
        """One rank's part of a global batch of the epoch."""
        # the global batch is cut by rank: one device with W·B samples sees the same batches as W devices
        first = (step * self.world + rank) * self.batch
        own = [(self.epoch, index) for index in self._shuffled()[first : first + self.batch]]
        for number in range(len(self.extras)):
            own += self.added(number, step, rank)
        return own

    def label_counts(self, labelled: Tensor, steps: range) -> Tensor:
        """How many samples of some batches of the epoch, on all ranks together, carry each task's label: (K,).

        :param labelled: the label mask of everything that positions point to, bool (N, K)
        """
        indices: list[int] = []
        for step in steps:
            for rank in range(self.world):
                indices += [index for _, index in self.places(step, rank)]
        return labelled[indices].sum(0)

    def _shuffled(self) -> list[int]:
        if self._order[0] != self.epoch:
            # from (seed, epoch) alone: a resumed run gets the order of its epoch without replaying the ones before
            order = torch.randperm(len(self.indices), generator=generator_for(self.seed, "order", self.epoch))
            self._order = self.epoch, self.indices[order].tolist()
        return self._order[1]

    def added(self, number: int, step: int, rank: int) -> Iterator[Place]:
        """A rank's samples of one further source in one step, as (round, index)."""
        source = self.extras[number]
        # counted from the start of the run: the source goes on where the last epoch left it
        before = ((self.epoch * len(self) + step) * self.world + rank) * source.per_batch
        for position in range(before, before + source.per_batch):
            turn, place = divmod(position, len(source.indices))
            yield turn, source.indices[_round_order(self.seed, number, turn, len(source.indices))[place]]


@functools.lru_cache(maxsize=8)
def _round_order(seed: int, source: int, turn: int, size: int) -> list[int]:
    """The order in which a further source is gone through for the ``turn``-th time."""
    order: list[int] = torch.randperm(size, generator=generator_for(seed, "extra", source, turn)).tolist()
    return order


class TrainingData(Dataset[tuple[Sample, Tensor, int]]):
    """Blanked samples, transformed in the worker by the experiment's plugins."""

    def __init__(self, data: BlankedDataset | Joined, hooks: Hooks, seed: int) -> None:
        self.data = data
        self.hooks = _WorkerHooks(hooks)
        self.seed = seed

    def __getitem__(self, place: Place) -> tuple[Sample, Tensor, int]:
        epoch, index = place
        sample, labelled, _ = self.data[index]
        # per sample, not per worker: the number of workers may change without changing the data
        return self.hooks.transform(sample, generator_for(self.seed, "sample", epoch, index)), labelled, index


class _WorkerHooks:
    """The plugins that transform samples, and nothing else: this is what travels to a worker."""

    def __init__(self, hooks: Hooks) -> None:
        wanted = {i.plugin_name: i.argnames for i in hooks.manager.hook.transform_sample.get_hookimpls()}
        names = [name for name, _ in hooks.implementations("transform_sample")]
        self.plugins = [(name, hooks.plugins[name], wanted[name]) for name in names]

    def transform(self, sample: Sample, generator: torch.Generator) -> Sample:
        for name, plugin, wanted in self.plugins:
            known = {"sample": sample, "generator": generator}
            value = with_plugin_note(name, plugin.transform_sample)(*(known[argument] for argument in wanted))
            sample = sample if value is None else Answer(name, "transform_sample", value).sample(sample)
        return sample


def training_loader(data: TrainingData, order: BatchOrder, workers: int, pinned: bool) -> Batches:
    # workers live on between epochs: places, with their epoch, come from the order in this process
    return DataLoader(
        data, batch_sampler=order, collate_fn=collate, num_workers=workers, pin_memory=pinned,
        persistent_workers=workers > 0,
    )  # fmt: skip


def evaluation_loader(
    dataset: MultiTaskDataset, labelled: Tensor, indices: Sequence[int], batch: int, rank: int = 0, world: int = 1,
    workers: int = 0, pinned: bool = False,
) -> Batches:  # fmt: skip
    """Every world-th sample of a list, in order; no sample twice."""
    mine = Subset(BlankedDataset(dataset, labelled), indices[rank::world])
    return DataLoader(
        mine, batch_size=batch, collate_fn=collate, num_workers=workers, pin_memory=pinned,
        persistent_workers=workers > 0,
    )  # fmt: skip


def split_validation(size: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Training and validation positions: a seeded share of the training data is held out."""
    order = torch.randperm(size, generator=generator_for(seed, "validation")).tolist()
    held = round(size * share)
    return sorted(order[held:]), sorted(order[:held])
