"""Runs that end before their last epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtl_core.commands.train import train
from mtl_core.errors import MtlError
from mtl_core.experiment import Experiment
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training.checkpoint import load_checkpoint
from mtl_core.training.stopping import Stopping


def experiment(**settings: Any) -> Experiment:
    # a rate so small that no float of the metrics moves: no epoch is better than the first
    options = {"epochs": 9, "validation": 0.25, "device": "cpu", "batch_size": 2, "learning_rate": 1e-30} | settings
    return Experiment(name="t", plugins=[ToyData(), ToyLabels(), ToyNetwork()], **options)


def test_epochs_without_a_better_one_are_counted() -> None:
    stopping = Stopping(experiment(patience=2), True)
    for better, ends in ((True, False), (False, False), (True, False), (False, False), (False, True)):
        stopping.note(better)
        assert stopping.now == ends


def test_a_run_without_progress_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = train(experiment(patience=2), tmp_path / "run")
    assert "run: ends after 3 epochs: no better epoch in the last 2" in caplog.text
    history = run.history()
    assert [record["epoch"] for record in history] == [0, 1, 2]
    assert [record.get("stopped") for record in history] == [None, None, "no better epoch in the last 2"]
    assert run.results.is_file()
    assert load_checkpoint(run.checkpoint())["epoch"] == 3


def test_a_run_that_has_ended_stays_ended(tmp_path: Path) -> None:
    run = train(experiment(patience=2), tmp_path / "run")
    before = run.metrics.read_text()
    train(experiment(patience=2), tmp_path / "run", resume=True)
    assert run.metrics.read_text() == before


def test_without_validation_data_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MtlError, match="patience: needs validation data"):
        train(experiment(patience=2, validation=0.0), tmp_path / "run")
