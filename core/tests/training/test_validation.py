"""Validation at an epoch's end: when, on what, and with which statistics."""

from __future__ import annotations

import math
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
from mtl_core.training.evaluation import evaluate
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


@plugin
class Noise:
    """Two views, each with noise of its own."""

    @hookimpl
    def count_views(self) -> int:
        return 2

    @hookimpl
    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return images + torch.rand(images.shape, generator=generator)


def trainer(folder: Path, *plugins: object, normed: bool = False, **settings: Any) -> Trainer:
    options = {"epochs": 8, "batch_size": 2, "validation": 0.25, "device": "cpu"} | settings
    made = Experiment(name="t", plugins=[ToyData(), ToyLabels(), ToyNetwork(), *plugins], **options)
    session = prepare(made)
    if normed:
        session.network.backbone.append(nn.BatchNorm2d(8))  # type: ignore[operator]
    return Trainer(session, make_fabric(made), RunFolder(folder))


def test_without_validation_data_there_is_nothing_to_measure(tmp_path: Path) -> None:
    assert trainer(tmp_path, validation=0.0).validation.measure(0, {}) == {}


def test_metrics_and_losses_are_those_of_the_validation_data(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    found = t.validation.measure(0, {})
    assert t.data.validation is not None
    expected = evaluate(t.evaluated, t.data.validation, torch.device("cpu"))
    metrics = {f"val/{name}": value for name, value in expected.metrics.items()}
    losses = {f"validation/loss/{name}": value for name, value in expected.losses.items()}
    # NaN for segmentation, of whose labels none is among the validation samples
    assert found == pytest.approx(metrics | losses, rel=0, abs=0, nan_ok=True)
    assert math.isfinite(found["validation/loss/depth"])


@pytest.mark.parametrize("normed", [False, True])
def test_statistics_are_compared_ever_more_rarely_and_at_the_end(tmp_path: Path, normed: bool) -> None:
    """A second pass over the validation data costs time; without batch norm there is nothing to compare."""
    validation = trainer(tmp_path, normed=normed, epochs=11).validation
    compared = [epoch + 1 for epoch in range(11) if validation._compares_statistics(epoch)]
    assert compared == ([1, 2, 4, 8, 11] if normed else [])


def test_statistics_are_reestimated_on_images_as_training_sees_them(tmp_path: Path) -> None:
    """All views, augmented; the same images whenever an epoch's are taken, others in the next epoch."""
    validation = trainer(tmp_path, Noise(), batch_norm="reestimated", batch_norm_batches=2).validation
    first, again, other = (list(validation.training_images(epoch)) for epoch in (0, 0, 1))
    assert [tuple(images.shape) for images in first] == [(4, 3, 32, 32)] * 2
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert max(images.max() for images in first) > 1, "the noise is in them"
