"""Learning rates over a run, step by step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from mtl_core.experiment import Experiment
from mtl_core.run_folder import RunFolder
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training.fabric import make_fabric
from mtl_core.training.schedules import steps_of_epoch
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


def rates_of(folder: Path, **settings: Any) -> list[float]:
    """The rate with which each optimizer step of a run of two epochs was taken; four batches an epoch."""
    options: dict[str, Any] = {"epochs": 2, "batch_size": 2, "validation": 0.0, "device": "cpu"} | settings
    made = Experiment(name="t", plugins=[ToyData(size=(8, 8)), ToyLabels(), ToyNetwork()], **options)
    folder.mkdir(exist_ok=True)
    trainer = Trainer(prepare(made), make_fabric(made), RunFolder(folder))
    seen: list[float] = []
    trainer.raw_optimizer.register_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"]))
    trainer.fit()
    return seen


def test_warm_up(tmp_path: Path) -> None:
    found = rates_of(tmp_path, warmup=5, learning_rate=1e-3)
    assert found == pytest.approx([1e-3 * share for share in (0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1)])


def test_warm_up_multiplies_the_schedule(tmp_path: Path) -> None:
    found = rates_of(tmp_path, warmup=2, schedule="step", drops=(0.5,), drop_factor=0.1, learning_rate=1.0)
    assert found == pytest.approx([0.5, 1, 1, 1, 0.1, 0.1, 0.1, 0.1])


def test_a_schedule_by_steps(tmp_path: Path) -> None:
    settings = {"schedule": "cosine", "schedule_by": "step", "learning_rate": 1.0, "accumulate": 3}
    found = rates_of(tmp_path / "a", **settings)
    # two steps an epoch: of three batches and of the one that is left
    assert found == pytest.approx([0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4)])
    found = rates_of(tmp_path / "b", schedule="poly", schedule_by="step", learning_rate=1.0)
    assert found == pytest.approx([(1 - k / 8) ** 0.9 for k in range(8)])
    rates = [record["learning_rate"] for record in RunFolder(tmp_path / "b").history()]
    assert rates == pytest.approx([found[3], found[7]]), "the rate of an epoch is that of its last step"


def test_by_epochs_rates_stay_within_an_epoch(tmp_path: Path) -> None:
    found = rates_of(tmp_path, schedule="cosine", learning_rate=1.0)
    assert found == pytest.approx([1.0] * 4 + [0.5] * 4)


@pytest.mark.parametrize(("batches", "accumulate", "steps"), [(4, 1, 4), (4, 3, 2), (3, 3, 1), (1, 8, 1)])
def test_the_last_step_of_an_epoch_takes_what_is_left(batches: int, accumulate: int, steps: int) -> None:
    assert steps_of_epoch(batches, accumulate) == steps
