"""Batches besides those that the network learns from, in an order of their own that never ends.

Shape letters: B samples of a rank, W ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mtl_core.data.datasets import BlankedDataset, Joined
from mtl_core.data.sample import Batch, Sample, collate
from mtl_core.errors import MtlError
from mtl_core.seeds import generator_for
from mtl_core.step.look_ahead import Source
from mtl_core.training.loader import Place, TrainingData


class _SecondOrder(Sampler[list[Place]]):
    """Batches without end, the n-th the same whenever it is asked for; every rank takes its slice.

    :param indices: positions in the data set
    :param batch: B
    :param name: of the order: one seed gives every name its own
    """

    def __init__(self, indices: Sequence[int], batch: int, seed: int, name: str, rank: int = 0, world: int = 1) -> None:
        self.indices = torch.as_tensor(indices)
        self.batch = batch
        self.seed = seed
        self.name = name
        self.rank = rank
        self.world = world
        self.start = 0
        self.shuffled: tuple[int, list[int]] = (-1, [])

    def __iter__(self) -> Iterator[list[Place]]:
        return (self.places(turn) for turn in count(self.start))

    def places(self, turn: int) -> list[Place]:
        first = (turn * self.world + self.rank) * self.batch
        return [self.place(position) for position in range(first, first + self.batch)]

    def place(self, position: int) -> Place:
        """Passes over the data are numbered −1, −2 …: their geometry is not that of the run's own epochs."""
        number, offset = divmod(position, len(self.indices))
        if self.shuffled[0] != number:
            order = torch.randperm(len(self.indices), generator=generator_for(self.seed, self.name, number))
            self.shuffled = number, self.indices[order].tolist()
        return -1 - number, self.shuffled[1][offset]


class _Untransformed(Dataset[tuple[Sample, Tensor, int]]):
    """Samples as they are, asked for as the training data are."""

    def __init__(self, data: BlankedDataset | Joined) -> None:
        self.data = data

    def __getitem__(self, place: Place) -> tuple[Sample, Tensor, int]:
        return self.data[place[1]]


class SecondBatches:
    """Batches besides those that the network learns from; loaders are made when they are first asked for.

    :param data: the training data
    :param places: source → positions in the data set
    :param workers: processes that load
    :param rank: of this process, among ``world``
    :param validation: the validation data, where they are no part of the training data
    """

    def __init__(
        self, data: TrainingData, places: Mapping[Source, Sequence[int]], batch: int, seed: int,
        workers: int = 0, rank: int = 0, world: int = 1, validation: BlankedDataset | None = None,
    ) -> None:  # fmt: skip
        self.data = data
        self.places = places
        self.workers = workers
        self.validation = validation or data.data
        self.options = {"batch": batch, "seed": seed, "rank": rank, "world": world}
        self.running: dict[Source, tuple[int, Iterator[Any]]] = {}

    def at(self, source: Source, turn: int) -> Batch:
        """The batch of one optimizer step; steps that follow each other are loaded ahead."""
        following, iterator = self.running.get(source, (-1, None))
        # asked for out of turn, as after a resume: the loader begins again at this turn
        if iterator is None or turn != following:
            iterator = self.begin(source, turn)
        batch: Batch = next(iterator)
        self.running[source] = turn + 1, iterator
        return batch

    def begin(self, source: Source, turn: int) -> Iterator[Any]:
        if not self.places[source]:
            raise MtlError(
                f"there is no {source} data to look ahead with; set validation in the experiment, such as"
                " validation = 0.1, or let the plugin take training data"
            )
        order = _SecondOrder(self.places[source], name=f"look-ahead {source}", **self.options)
        order.start = turn
        data = self.data if source == "training" else _Untransformed(self.validation)
        loader = DataLoader(data, batch_sampler=order, collate_fn=collate, num_workers=self.workers)
        return iter(loader)
