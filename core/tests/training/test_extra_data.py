"""Further sources with a fixed number of samples in every batch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from mtl_core import Experiment, train
from mtl_core.data.datasets import Aligned, BlankedDataset, Joined
from mtl_core.data.sample import ExtraData
from mtl_core.errors import DataError, MtlError
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.run_folder import RunFolder
from mtl_core.tasks.regression import Depth
from mtl_core.tasks.segmentation import Segmentation
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.toys import Shapes, ToyData, ToyLabels, ToyNetwork
from mtl_core.training.loader import BatchOrder, Extra
from mtl_core.training.loaders import _sources
from mtl_core.training.session import prepare

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


class DepthOnly(Shapes):
    """The toy images with their depth alone."""

    def __init__(self, samples: int = 5, size: tuple[int, int] = (32, 32), task: Any = None) -> None:
        super().__init__(samples, size, "extra")
        self.kept = task or Depth(name="depth")

    def __getattribute__(self, name: str) -> Any:
        return Tasks([self.kept]) if name == "tasks" and "kept" in self.__dict__ else super().__getattribute__(name)

    def __getitem__(self, index: int) -> Any:
        sample = super().__getitem__(index)
        sample.targets = {"depth": sample.targets["depth"]}
        return sample


def test_missing_labels_are_blank_and_positions_follow() -> None:
    main = Shapes(4, (32, 32), "train")
    extra = Aligned("x", ExtraData(DepthOnly(), 2), main)
    assert extra.labelled is not None
    assert extra.labelled.tolist() == [[False, True, False]] * 5
    joined = Joined([BlankedDataset(main, torch.ones(4, 3, dtype=torch.bool)), BlankedDataset(extra, extra.labelled)])
    assert len(joined) == 9
    sample, labelled, index = joined[6]
    assert (labelled.tolist(), index) == ([False, True, False], 6)
    assert torch.equal(sample.image, DepthOnly()[2].image)
    assert torch.equal(sample.targets["depth"], DepthOnly()[2].targets["depth"])
    assert (sample.targets["segmentation"] == -1).all()
    assert (sample.targets["normals"] == 0).all()
    assert joined[3][2] == 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DepthOnly(size=(16, 32)), r"x: extra images of \(16, 32\) pixels .* training images have \(32, 32\)"),
        (DepthOnly(task=Segmentation(name="depth", channels=3)), "x: extra data with Segmentation.*have Depth"),
        (DepthOnly(task=Depth(name="height")), "tasks height, none of which is one of the training data's"),
    ],
)
def test_data_that_do_not_fit_are_refused(data: DepthOnly, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Aligned("x", ExtraData(data, 2), Shapes(4, (32, 32), "train"))


@plugin
class MoreDepth:
    """Depth of further images."""

    @hookimpl
    def build_extra_datasets(self) -> list[ExtraData]:
        return [ExtraData(DepthOnly(), 1)]


def experiment(epochs: int, *more: object, **settings: Any) -> Experiment:
    plugins = [ToyData(samples=6), ToyLabels(), ToyNetwork(), *more]
    return Experiment(name="x", plugins=plugins, epochs=epochs, batch_size=2, validation=0.0, **settings)


def test_training_sees_them_and_a_resume_goes_on(tmp_path: Path) -> None:
    made = experiment(2, MoreDepth(), checkpoint_steps=2)
    whole = train(made, tmp_path / "whole")
    record = whole.history()[0]
    assert record["train/labels/depth"] == pytest.approx((2 / 3 + 1) / 3)
    assert record["train/labels/normals"] == pytest.approx(2 / 9)

    stopped = RunFolder(tmp_path / "stopped")

    def stop(epoch: int, batch: int, batches: int) -> None:
        if (epoch, batch) == (1, 2) and not stopped.metrics.with_suffix(".stopped").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(made, stopped.folder, watch=stop)
    # classes that are defined here cannot be read from the folder's file: only the checkpoint is taken over
    stopped.experiment.unlink()
    train(made, stopped.folder, resume=True)
    assert stopped.history()[1]["train/loss"] == whole.history()[1]["train/loss"]


@plugin
class Knows:
    @hookimpl
    def setup(self, labelled: Any) -> None:
        self.labelled = labelled


def test_setup_knows_their_labels_too() -> None:
    session = prepare(experiment(1, MoreDepth(), Knows()))
    found = next(p.labelled for p in session.hooks.plugins.values() if isinstance(p, Knows))
    assert found[:6].equal(session.labelled)
    assert found[6:].tolist() == [[False, True, False]] * 5


def test_wholly_unlabelled_samples_can_have_a_fixed_number_too() -> None:
    made = experiment(1, unlabelled_per_batch=1)
    session = prepare(made)
    session.labelled[[1, 4]] = False
    train_places, extras = _sources(session, list(range(6)))
    assert train_places == [0, 2, 3, 5]
    assert extras == [Extra([1, 4], 1)]
    made.unlabelled_per_batch = 3
    with pytest.raises(MtlError, match="unlabelled_per_batch = 3: only 2 training samples are without any label"):
        _sources(session, list(range(6)))
    made.unlabelled_per_batch = None
    made.drop_unlabelled = True
    assert _sources(session, list(range(6))) == ([0, 2, 3, 5], [])
