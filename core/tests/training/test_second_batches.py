"""Batches beside those that the network learns from: an order without end, the same from anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mtl_core.data.datasets import BlankedDataset
from mtl_core.errors import MtlError
from mtl_core.experiment import Experiment
from mtl_core.hooks.relay import Hooks
from mtl_core.run_folder import RunFolder
from mtl_core.testing.toys import Shapes, ToyData, ToyLabels, ToyNetwork
from mtl_core.training.fabric import make_fabric
from mtl_core.training.loader import TrainingData
from mtl_core.training.second_batches import SecondBatches, _SecondOrder
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


def test_validation_data_of_the_datas_own_split(tmp_path: Path) -> None:
    plugins = [ToyData(val=6), ToyLabels(), ToyNetwork()]
    made = Experiment(name="r", plugins=plugins, batch_size=2, validation=0.25, device="cpu")
    session = prepare(made)
    trainer = Trainer(session, make_fabric(made), RunFolder(tmp_path))
    batch = trainer.data.second.at("validation", 0)
    known = [Shapes(6, (32, 32), "val")[i].image for i in range(6)]
    assert all(any(torch.equal(image, one) for one in known) for image in batch.images)


def test_an_order_is_the_same_from_wherever_it_is_entered() -> None:
    order = _SecondOrder(range(10, 17), 3, seed=0, name="x")
    whole = [places for _, places in zip(range(9), order, strict=False)]
    again = _SecondOrder(range(10, 17), 3, seed=0, name="x")
    again.start = 5
    assert [places for _, places in zip(range(4), again, strict=False)] == whole[5:]


def test_every_pass_of_an_order_has_every_sample_once() -> None:
    order = _SecondOrder(range(10, 17), 3, seed=0, name="x")
    places = [place for turn in range(7) for place in order.places(turn)]
    for number in range(3):
        assert sorted(index for turn, index in places if turn == -1 - number) == list(range(10, 17))
    assert places[:7] != places[7:14]
    other = _SecondOrder(range(10, 17), 3, seed=0, name="y")
    assert places != [place for turn in range(7) for place in other.places(turn)]


def test_ranks_share_a_global_batch() -> None:
    one = _SecondOrder(range(9), 4, seed=0, name="x")
    two = [_SecondOrder(range(9), 2, seed=0, name="x", rank=rank, world=2) for rank in (0, 1)]
    for turn in range(6):
        assert two[0].places(turn) + two[1].places(turn) == one.places(turn)


def second(places: list[int]) -> SecondBatches:
    labelled = torch.ones(8, 3, dtype=torch.bool)
    data = TrainingData(BlankedDataset(Shapes(8, (8, 8), "train"), labelled), Hooks({}, required=()), seed=0)
    return SecondBatches(data, {"training": places, "validation": []}, batch=2, seed=0)


def test_a_batch_depends_on_its_turn_alone() -> None:
    steady = second([1, 3, 5, 7])
    inturn = [steady.at("training", turn).index.tolist() for turn in range(5)]
    assert set(inturn[0] + inturn[1]) == {1, 3, 5, 7}
    jumping = second([1, 3, 5, 7])
    assert [jumping.at("training", turn).index.tolist() for turn in (3, 0, 4)] == [inturn[3], inturn[0], inturn[4]]


def test_without_data_the_error_names_the_setting() -> None:
    with pytest.raises(MtlError, match=r"there is no validation data to look ahead with; set validation in the exp"):
        second([0, 1]).at("validation", 0)
