"""Every regularizer that learns, draws or asks for views: a resumed run ends as it would have, batch norm included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtl_backbones import SegNet
from mtl_consistency import Consistency
from mtl_core import Experiment, RunFolder, make_fabric
from mtl_core.testing import ToyData, ToyLabels, Trainer, prepare
from mtl_crosstask import DirectMap, PerceptualMap
from mtl_jtr import JTR
from mtl_mtpsl import MTPSL
from mtl_randaugment import RandAugment

REGULARIZERS: dict[str, Callable[[], object]] = {
    "jtr": JTR,
    "jtr released": lambda: JTR(variant="released"),
    "mtpsl": MTPSL,
    "mtpsl released": lambda: MTPSL(variant="released"),
    "direct-map": DirectMap,
    "perceptual-map": PerceptualMap,
    "consistency": Consistency,
}


def trainer(name: str, folder: Path) -> Trainer:
    plugins = [ToyData(samples=8), ToyLabels(), SegNet(width=2), RandAugment(), REGULARIZERS[name]()]
    settings = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-2, "validation": 0.0, "device": "cpu"}
    experiment = Experiment(name="regularizers", plugins=plugins, **settings)  # type: ignore[arg-type]
    folder.mkdir(exist_ok=True)
    return Trainer(prepare(experiment, RunFolder(folder)), make_fabric(experiment), RunFolder(folder))


def state(t: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in t.step.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


class Stop(Exception):
    """Ends a run in the middle of an epoch."""


def whole_and_parts(name: str, folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """How a run ends, and how it ends stopped in the last epoch and resumed."""
    whole, first = trainer(name, folder / "whole"), trainer(name, folder / "parts")
    whole.fit()

    def stop(epoch: int, batch: int, batches: int) -> None:
        if (epoch, batch) == (1, 1):
            first.save()
            raise Stop

    with pytest.raises(Stop):
        first.fit(stop)
    second = trainer(name, folder / "parts")
    second.resume()
    assert (second.position.epoch, second.position.batch) == (1, 1)
    second.fit()
    return state(whole), state(second)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_run_resumed_within_an_epoch_ends_as_one_that_was_not_stopped(name: str, tmp_path: Path) -> None:
    whole, parts = whole_and_parts(name, tmp_path)
    assert all(bool(value.isfinite().all()) for value in whole.values())
    assert equal(whole, parts)


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("jtr released", "mtl_jtr.entries.generator_beside"),
        ("mtpsl released", "mtl_mtpsl.maps.generator_beside"),
    ],
)
def test_noise_that_a_step_does_not_decide_changes_the_outcome(
    name: str, drawn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the test above could not fail for it."""
    going_on = torch.Generator().manual_seed(0)
    monkeypatch.setattr(drawn, lambda values, generator: going_on)
    assert not equal(*whole_and_parts(name, tmp_path))
