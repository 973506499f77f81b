"""Checkpoints that are whole archives and not of this run: one line, whichever part is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mtl_core.testing import command

EXPERIMENT = """
name = "x"
epochs = 1
batch_size = 2
device = "cpu"
validation = 0.0
[plugins.data]
size = [8, 8]
[plugins.labels]
[plugins.network]
"""
State = dict[str, Any]


pytestmark = pytest.mark.filterwarnings("ignore:.*[sS]parse")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the first test trains in."""
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path, toys: None) -> Path:
    if not trained.exists():
        (tmp_path / "x.toml").write_text(EXPERIMENT)
        assert command("train", str(tmp_path / "x.toml"), "--out", str(trained), "--quiet") == 0
    return Path(shutil.copytree(trained, tmp_path / "run"))


def without(key: str) -> Callable[[State], State]:
    return lambda state: {name: value for name, value in state.items() if name != key}


def having(**changes: Any) -> Callable[[State], State]:
    return lambda state: state | changes


def weights(change: Callable[[torch.Tensor], Any]) -> Callable[[State], State]:
    return lambda state: state | {"step": {name: change(value) for name, value in state["step"].items()}}


PARTS = ("world", "step", "optimizer", "schedule", "precision", "averages", "selection", "epoch", "batch", "number")
RESUMED: dict[str, tuple[Callable[[State], State], str]] = {
    **{f"no {part}": (without(part), "") for part in PARTS},
    "nothing but a format": (lambda state: {"format": state["format"]}, "no 'world' in it"),
    "no weights": (having(step=None), "holds no weights"),
    "numbers for weights": (having(step={"a": 1}), "does not fit the experiment's networks: missing"),
    "sparse weights": (weights(lambda w: w.to_sparse()), "is sparse, expected dense and of real numbers"),
    "complex weights": (weights(lambda w: w.to(torch.complex64)), "is dense and complex"),
    "whole weights": (weights(lambda w: w.long()), "is dense and of whole numbers"),
    "another schedule": (having(schedule={"a": 1}), "not a state that this run can go on from"),
    "averages of nothing": (having(averages=[{"tables": 3}]), "not a state that this run can go on from"),
    "averages of no rank": (having(averages=[]), "not a state that this run can go on from"),
    "a selection of numbers": (having(selection={"first": 1}), "not a state that this run can go on from"),
    "an epoch in text": (having(epoch="x"), "epoch is 'x', expected a whole number from 0"),
    "an epoch before the first": (having(epoch=-4), "epoch is -4"),
    "a batch behind the last": (having(batch=10**9), "batch is 1000000000, expected a whole number from 0 to 4"),
    "processes in text": (having(world="x"), "world is 'x'"),
}


@pytest.mark.parametrize("case", RESUMED)
def test_a_resume_names_the_checkpoint_and_what_is_wrong(
    run: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, expected = RESUMED[case]
    path = run / "last.ckpt"
    torch.save(change(torch.load(path, weights_only=True)), path)
    before = (run / "metrics.jsonl").read_text()
    capsys.readouterr()
    again = ("train", str(run / "experiment.toml"), "--out", str(run), "--resume", "--quiet", "--set", "epochs=2")
    assert command(*again) == 2
    shown = capsys.readouterr().err
    assert "last.ckpt: " in shown
    assert expected in shown
    assert len(shown.strip().splitlines()) <= 2  # the second names the experiment
    assert (run / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize("case", ["no epoch", "an epoch in text", "sparse weights", "complex weights"])
def test_evaluation_does_so_too(run: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, expected = RESUMED[case]
    path = run / "last.ckpt"
    torch.save(change(torch.load(path, weights_only=True)), path)
    capsys.readouterr()
    assert command("evaluate", str(run)) == 2
    shown = capsys.readouterr().err
    assert "last.ckpt: " in shown
    assert expected in shown
    assert len(shown.strip().splitlines()) == 1
