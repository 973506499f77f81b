"""What a run reads: training and validation batches, further sources, samples without a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mtl_core import Batch, Experiment, train
from mtl_core.data.sample import ExtraData
from mtl_core.errors import MtlError
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.run_folder import RunFolder
from mtl_core.testing.toys import Shapes, ToyData, ToyLabels, ToyNetwork
from mtl_core.training.fabric import make_fabric
from mtl_core.training.loader import Extra
from mtl_core.training.loaders import _sources, open_loaders
from mtl_core.training.session import prepare


def experiment(data: ToyData, *more: object, **settings: Any) -> Experiment:
    options: dict[str, Any] = {"epochs": 1, "batch_size": 2, "validation": 0.25, "device": "cpu"} | settings
    return Experiment(name="r", plugins=[data, ToyLabels(), ToyNetwork(), *more], **options)


def loaders(made: Experiment) -> Any:
    return open_loaders(prepare(made), make_fabric(made))


def images(batches: Any) -> torch.Tensor:
    found: list[Batch] = list(batches)
    return torch.cat([batch.images for batch in found])


def test_the_datas_split_takes_the_place_of_a_share() -> None:
    found = loaders(experiment(ToyData(val=6)))
    assert len(found.order.indices) == 8
    expected = torch.stack([Shapes(6, (32, 32), "val")[i].image for i in range(6)])
    assert torch.equal(images(found.validation), expected)
    assert all(batch.labelled.all() for batch in found.validation)


def test_without_such_a_split_a_share_is_kept() -> None:
    found = loaders(experiment(ToyData()))
    assert len(found.order.indices) == 6
    assert len(images(found.validation)) == 2


def test_validation_zero_uses_no_split() -> None:
    assert loaders(experiment(ToyData(val=6), validation=0.0)).validation is None


@plugin
class MoreDepth:
    """Depth of further images."""

    @hookimpl
    def build_extra_datasets(self) -> list[ExtraData]:
        labelled = torch.tensor([False, True, False]).repeat(5, 1)
        return [ExtraData(Shapes(5, (32, 32), "extra"), 1, labelled)]


def test_wholly_unlabelled_samples_can_have_a_fixed_number_too() -> None:
    made = experiment(ToyData(samples=6), unlabelled_per_batch=1)
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


def test_training_sees_further_sources_and_a_resume_goes_on(tmp_path: Path) -> None:
    made = experiment(ToyData(samples=6), MoreDepth(), epochs=2, validation=0.0, checkpoint_steps=2)
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


def test_a_metric_that_chooses_the_best_epoch_needs_a_sample_for_validation() -> None:
    made = experiment(ToyData(samples=4), validation=0.01, best_on="depth/rmse")
    with pytest.raises(
        MtlError, match=r"best_on = 'depth/rmse': validation = 0.01 keeps none of the 4 training samples"
    ):
        loaders(made)


@pytest.mark.parametrize("never", [(), ("depth",), ("segmentation", "depth", "normals")])
def test_whether_any_training_sample_has_a_label(never: tuple[str, ...]) -> None:
    made = experiment(ToyData())
    made.plugins["toylabels"].never = never
    assert loaders(made).has_labels == (len(never) < 3)


def test_a_run_without_unlabelled_samples_says_that_none_is_added(caplog: pytest.LogCaptureFixture) -> None:
    session = prepare(experiment(ToyData(), unlabelled_per_batch=2))
    assert _sources(session, list(range(8))) == (list(range(8)), [])
    assert "unlabelled_per_batch = 2: every training sample has a label, and none is added" in caplog.text
