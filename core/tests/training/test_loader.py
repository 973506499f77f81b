"""The loader's order, its shards, and labels that are withheld."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest
import torch
from torch import Tensor

from mtl_core.data.datasets import BlankedDataset
from mtl_core.data.sample import Sample
from mtl_core.errors import ContractError, DataError
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.hooks.relay import Hooks
from mtl_core.testing.toys import Shapes
from mtl_core.training.loader import BatchOrder, Extra, TrainingData, evaluation_loader, split_validation


def indices(order: BatchOrder) -> list[list[int]]:
    return [[index for _, index in batch] for batch in order]


def test_an_epoch_visits_every_sample_once_in_an_order_of_its_own() -> None:
    order = BatchOrder(range(10, 34), batch=4, seed=0)
    first = indices(order)
    again = indices(order)
    order.go(1)
    second = indices(order)
    assert first == again
    assert sorted(i for batch in first for i in batch) == list(range(10, 34))
    assert first != second


def test_going_on_in_the_middle_gives_the_rest() -> None:
    order = BatchOrder(range(24), batch=4, seed=3)
    whole = indices(order)
    order.go(0, 2)
    assert indices(order) == whole[2:]


def test_ranks_share_the_batches_of_one_process() -> None:
    whole = indices(BatchOrder(range(24), batch=6, seed=1))
    parts = [indices(BatchOrder(range(24), batch=3, seed=1, rank=r, world=2)) for r in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole


def test_the_incomplete_batch_is_left_out_and_too_few_samples_are_an_error() -> None:
    assert [len(b) for b in indices(BatchOrder(range(11), batch=4, seed=0))] == [4, 4]
    with pytest.raises(DataError, match="3 training samples do not fill one batch of 2 on 2 device"):
        BatchOrder(range(3), batch=2, seed=0, world=2)


def test_validation_is_a_seeded_share() -> None:
    train, held = split_validation(100, 0.1, seed=5)
    assert sorted(train + held) == list(range(100))
    assert len(held) == 10
    assert split_validation(100, 0.1, seed=5)[1] == held
    assert split_validation(100, 0.1, seed=6)[1] != held
    assert split_validation(7, 0.0, seed=0) == (list(range(7)), [])


class Planted(Shapes):
    """The same images with other labels wherever a mask withholds them."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__(len(mask), (8, 8), "train")
        self.mask = mask

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        for k, name in enumerate(self.tasks.names):
            if not self.mask[index, k]:
                sample.targets[name] = sample.targets[name] * 0 + 1
        return sample


def test_a_withheld_label_is_blank_before_anything_sees_it() -> None:
    mask = torch.eye(3, dtype=torch.bool).repeat(2, 1)
    clean = BlankedDataset(Shapes(6, (8, 8), "train"), mask)
    planted = BlankedDataset(Planted(mask), mask)
    for i in range(6):
        for name, target in clean[i][0].targets.items():
            assert torch.equal(target, planted[i][0].targets[name])
            valid = clean.dataset.tasks[name].valid(target[None])
            assert bool(valid.any()) == bool(mask[i, clean.dataset.tasks.position(name)])


@plugin
class Shift:
    @hookimpl
    def transform_sample(self, sample: Sample, generator: torch.Generator) -> Sample:
        return Sample(sample.image + torch.rand((), generator=generator), sample.targets)


@plugin
class Crop:
    @hookimpl
    def transform_sample(self, sample: Sample) -> Sample:  # takes only what it needs
        return Sample(sample.image[:, 1:], sample.targets)


def training_data(transform: object) -> TrainingData:
    known = BlankedDataset(Shapes(4, (8, 8), "train"), torch.ones(4, 3).bool())
    return TrainingData(known, Hooks({"it": transform}, required=()), 0)


def test_a_transformation_that_loses_the_size_is_named() -> None:
    with pytest.raises(ContractError, match=r'plugin "it": transform_sample returned image \(3, 7, 8\)'):
        training_data(Crop())[0, 1]


def test_transformations_are_seeded_by_epoch_and_index_and_travel_to_workers() -> None:
    data = training_data(Shift())
    sent = pickle.loads(pickle.dumps(data))
    assert torch.equal(data[0, 1][0].image, sent[0, 1][0].image)
    assert not torch.equal(data[0, 1][0].image, data[1, 1][0].image)


def test_evaluation_sees_every_sample_once_over_the_ranks() -> None:
    dataset = Shapes(7, (8, 8), "test")
    seen = [
        i
        for rank in range(2)
        for batch in evaluation_loader(dataset, torch.ones(7, 3).bool(), range(7), 2, rank, 2)
        for i in batch.index.tolist()
    ]
    assert sorted(seen) == list(range(7))


MAIN = range(10)


EXTRA = Extra(range(10, 17), 2)


def batches(order: BatchOrder, epoch: int, start: int = 0) -> list[list[tuple[int, int]]]:
    order.go(epoch, start)
    return list(order)


def test_every_batch_has_the_fixed_number_and_the_main_order_is_untouched() -> None:
    plain = BatchOrder(MAIN, 3, seed=4)
    extended = BatchOrder(MAIN, 3, seed=4, extras=[EXTRA, Extra([20], 1)])
    for epoch in range(3):
        for alone, batch in zip(batches(plain, epoch), batches(extended, epoch), strict=True):
            assert batch[:3] == alone
            assert all(10 <= index < 17 for _, index in batch[3:5])
            assert [index for _, index in batch[5:]] == [20]


def test_a_source_is_gone_through_before_it_begins_again() -> None:
    """7 extra samples, 2 per batch, 3 batches per epoch: seven epochs are six rounds."""
    order = BatchOrder(MAIN, 3, seed=4, extras=[EXTRA])
    seen = [place for epoch in range(7) for batch in batches(order, epoch) for place in batch[3:]]
    assert Counter(seen) == Counter((turn, index) for turn in range(6) for index in range(10, 17))
    rounds = [[index for turn, index in seen if turn == t] for t in range(6)]
    assert len({tuple(r) for r in rounds}) > 1


def test_it_goes_on_anywhere() -> None:
    order = BatchOrder(MAIN, 3, seed=4, extras=[EXTRA])
    whole = batches(order, 2)
    assert [batches(BatchOrder(MAIN, 3, seed=4, extras=[EXTRA]), 2, start) for start in (1, 2)] == [
        whole[1:],
        whole[2:],
    ]


def test_two_ranks_share_what_one_process_would_draw() -> None:
    ranks = [batches(BatchOrder(MAIN, 2, 4, rank, 2, [Extra(range(10, 40), 2)]), 1) for rank in range(2)]
    one = batches(BatchOrder(MAIN, 4, 4, extras=[Extra(range(10, 40), 4)]), 1)
    for step, batch in enumerate(one):
        assert sorted(batch[4:]) == sorted(ranks[0][step][2:] + ranks[1][step][2:])
