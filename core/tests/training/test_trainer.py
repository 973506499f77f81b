"""The loop: what is read and when, and what a run that ends early leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.run_folder import RunFolder
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training.fabric import make_fabric
from mtl_core.training.loader import BatchOrder, Extra
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


def randomly_labelled(samples: int = 15) -> tuple[ToyData, ToyLabels]:
    """Images with random labels: none, one or several each."""
    return ToyData(samples=samples, size=(8, 8)), ToyLabels(share=0.45)


def trainer(folder: Path, *plugins: object, **settings: Any) -> Trainer:
    options = {"epochs": 1, "validation": 0.0, "device": "cpu", "optimizer": "sgd", "learning_rate": 0.1} | settings
    made = Experiment(name="t", plugins=[*plugins, ToyNetwork()], **options)
    folder.mkdir(exist_ok=True)
    return Trainer(prepare(made), make_fabric(made), RunFolder(folder))


def test_labels_of_a_step_are_counted_over_all_ranks_and_sources() -> None:
    labelled = torch.rand(30, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    orders = [BatchOrder(range(20), 2, 5, rank, 2, [Extra(range(20, 30), 1)]) for rank in range(2)]
    for order in orders:
        order.go(3)
    batches = [batch for order in orders for batch in list(order)[1:3]]
    expected = sum(labelled[index].long() for batch in batches for _, index in batch)
    assert all(torch.equal(order.label_counts(labelled, range(1, 3)), expected) for order in orders)


class Counted(Tensor):
    """A label mask that counts how often it is indexed."""

    reads = 0

    def __getitem__(self, place: Any) -> Any:
        Counted.reads += 1
        return super().__getitem__(place)


def test_the_label_mask_is_read_row_by_row_by_nobody(tmp_path: Path) -> None:
    from mtl_core.training.loaders import _sources

    for settings, most in (({}, 0), ({"drop_unlabelled": True}, 2), ({"unlabelled_per_batch": 1}, 2)):
        session = trainer(tmp_path, *randomly_labelled(12), batch_size=3, **settings).session
        expected = _sources(session, list(range(12)))
        session.labelled = session.labelled.as_subclass(Counted)
        Counted.reads = 0
        assert _sources(session, list(range(12))) == expected
        assert Counted.reads <= most


def test_validation_is_read_by_workers_too(tmp_path: Path) -> None:
    t = trainer(tmp_path, *randomly_labelled(), batch_size=3, validation=0.2, workers=1, epochs=2)
    assert t.data.validation is not None
    assert t.data.validation.num_workers == 1
    t.fit()
    assert {"val/depth/rmse", "validation/loss/depth"} <= set(RunFolder(tmp_path).history()[1])


@plugin
class Stopper(nn.Module):
    """Ends the run in the second epoch, while the first one's checkpoint may still be written."""

    @hookimpl
    def after_epoch(self, epoch: int) -> None:
        if epoch == 1:
            raise ValueError("stopped")


def test_a_run_that_ends_early_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    t = trainer(tmp_path, *randomly_labelled(), Stopper(), batch_size=3, epochs=3)
    with pytest.raises(ValueError, match="stopped"):
        t.fit()
    again = trainer(tmp_path, *randomly_labelled(), Stopper(), batch_size=3, epochs=3)
    again.resume()
    assert (again.position.epoch, again.position.batch, again.position.micro_step) == (1, 0, 5)
    assert not list(tmp_path.glob(".*.part"))
