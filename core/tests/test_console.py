"""What a run shows while it trains: a line for each epoch, or a bar with losses and metrics below it."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from mtl_core import Experiment, train
from mtl_core.console import Monitor, _losses_of, progress
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training.epoch import EpochMeans


def experiment(**settings: Any) -> Experiment:
    plugins = [ToyData(samples=24), ToyLabels(), ToyNetwork()]
    options: dict[str, Any] = {"epochs": 2, "batch_size": 2, "validation": 0.5, "device": "cpu"} | settings
    return Experiment(name="rooms", plugins=plugins, **options)


def test_without_a_terminal_there_is_a_line_for_each_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = experiment()
    with progress(made) as watch:
        train(made, tmp_path, watch=watch, evaluate_on=None)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("  ")[0] for line in lines if line] == ["rooms: epoch 1/2", "rooms: epoch 2/2"]
    number = r"[\d.e+-]+"
    losses = rf"  loss {number} \(depth {number}, normals {number}, segmentation {number}\)"
    metrics = rf"  val  segmentation/miou {number}, depth/abs_err {number}, normals/mean_angle {number}  best"
    assert re.search(losses + metrics, lines[0])
    assert re.search(r"  \d+\.\d s", lines[0])


def test_quiet_is_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = experiment(epochs=1)
    with progress(made, quiet=True) as watch:
        train(made, tmp_path, watch=watch, evaluate_on=None)
    assert capsys.readouterr().out.strip() == ""


def test_other_ranks_are_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    with progress(experiment()) as watch:
        watch.show_epoch({"epoch": 0, "seconds": 1.0, "train/loss": 1.0}, best=True)
    assert capsys.readouterr().out.strip() == ""


def test_on_a_terminal_the_bar_has_losses_and_the_last_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monitor = Monitor(experiment(epochs=3), Console(file=shown, force_terminal=True, width=200))
    monitor.begin(["depth/abs_err"])
    with monitor.bar:
        monitor(0, 3, 4)
        assert not monitor.wants_losses
        monkeypatch.setattr("mtl_core.console._EVERY", 0.0)
        assert monitor.wants_losses
        monitor.show_losses({"train/loss": 0.5, "train/loss/depth": 0.25})
        assert monitor.bar.status == "loss 0.5 (depth 0.25)"
        monitor.show_epoch({"epoch": 0, "seconds": 1.0, "train/loss": 0.4, "val/depth/abs_err": 0.125}, best=True)
        monitor.show_losses({"train/loss": 0.3, "train/loss/depth": 0.3})
        monitor.bar.refresh()
    text = shown.getvalue()
    assert "rooms  epoch 1/3" in text
    assert "loss 0.3 (depth 0.3)  val  depth/abs_err 0.125" in text
    assert "rooms: epoch" not in text


def test_losses_that_are_not_finite_are_left_out() -> None:
    assert _losses_of({"train/loss": 1.0, "train/loss/a": math.nan, "train/loss/b": 2.0}) == "loss 1 (b 2)"
    assert _losses_of({"train/loss": math.nan}) == ""


def test_means_of_an_epoch_that_is_under_way() -> None:
    means = EpochMeans(torch.device("cpu"))
    means.add({"a": torch.tensor(1.0), "b": torch.tensor(2.0)})
    means.add({"a": torch.tensor(3.0)})
    means.add({"a": torch.tensor(math.nan), "c": torch.tensor(math.inf)})
    assert means.so_far() == {"a": 2.0, "b": 2.0}
    assert means.take() == pytest.approx({"a": 2.0, "b": 2.0, "c": math.nan, "skipped_steps": 0.0}, nan_ok=True)
