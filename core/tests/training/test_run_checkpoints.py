"""Checkpoints of a run: when they are due, what they hold, what a resume restores and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from mtl_core.data.datasets import BlankedDataset
from mtl_core.data.sample import collate
from mtl_core.errors import MtlError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.run_folder import RunFolder
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training.checkpoint import load_checkpoint, save_checkpoint
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


@plugin
class Remembers:
    """Counts batches in Python, and keeps the count in a checkpoint."""

    @hookimpl
    def setup(self) -> None:
        self.calls = 0

    @hookimpl
    def augment(self) -> None:
        self.calls += 1

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.calls = state["calls"]


def trainer(folder: Path, *plugins: object, **settings: Any) -> Trainer:
    options = {"epochs": 2, "batch_size": 2, "validation": 0.0, "device": "cpu", "learning_rate": 0.05} | settings
    parts = [ToyData(samples=12, size=(8, 8)), ToyLabels(), ToyNetwork(), *plugins]
    made = Experiment(name="t", plugins=parts, **options)
    return Trainer(prepare(made), make_fabric(made), RunFolder(folder))


def train_batches(t: Trainer, count: int) -> None:
    data = BlankedDataset(t.session.dataset, t.session.labelled)
    for first in range(0, 2 * count, 2):
        t.train_batch(collate([data[first], data[first + 1]]))


def flat(state: Any) -> list[Any]:
    """Everything in a state in one order, tensors as numbers."""
    if isinstance(state, dict):
        return [part for key in sorted(state, key=str) for part in [str(key), *flat(state[key])]]
    if isinstance(state, list | tuple):
        return [part for value in state for part in flat(value)]
    # as text: a mean may be NaN, which equals nothing
    return [repr(state.tolist())] if isinstance(state, Tensor) else [state]


def test_a_checkpoint_is_due_only_between_optimizer_steps(tmp_path: Path) -> None:
    """Three batches after the last one at the earliest, in steps of two: after the fourth batch."""
    t = trainer(tmp_path, accumulate=2, checkpoint_steps=3)
    due = []
    for _ in range(6):
        train_batches(t, 1)
        due.append(t.checkpoints.is_due())
        if due[-1]:
            t.save()
    assert due == [False, False, False, True, False, False]
    assert t.position.saved == 4


def test_without_checkpoint_steps_none_is_due_within_an_epoch(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    train_batches(t, 6)
    assert not t.checkpoints.is_due()


@pytest.mark.parametrize("ema", [None, 0.9])
def test_the_best_checkpoint_has_what_prediction_needs_and_no_optimizer_state(
    tmp_path: Path, ema: float | None
) -> None:
    t = trainer(tmp_path, ema=ema)
    train_batches(t, 2)
    t.save(best=True)
    best, last = (load_checkpoint(RunFolder(tmp_path).checkpoint(name)) for name in ("best", "last"))
    average = set() if ema is None else {"ema"}
    assert best.keys() == {"format", "step", "epoch", "tasks", "image_size", "experiment"} | average
    assert last.keys() > best.keys() | {"optimizer", "schedule"}
    assert flat(best) == flat({name: last[name] for name in best})
    assert flat(best["step"]) == flat(t.step.state_dict())


def test_an_epoch_that_is_not_the_best_leaves_the_best_checkpoint(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    t.save(best=True)
    best = RunFolder(tmp_path).checkpoint("best").read_bytes()
    train_batches(t, 1)
    t.save()
    assert RunFolder(tmp_path).checkpoint("best").read_bytes() == best
    assert flat(load_checkpoint(RunFolder(tmp_path).checkpoint())["step"]) == flat(t.step.state_dict())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ema": 0.9, "schedule": "cosine", "schedule_by": "step", "warmup": 4},
        {"validation": 0.25, "patience": 3, "optimizer": "sgd", "momentum": 0.9},
        {"precision": "fp16"},
    ],
)
def test_a_resume_restores_everything_that_was_saved(tmp_path: Path, settings: dict[str, Any]) -> None:
    """In the middle of the second epoch, so that means, best epoch and schedule have moved."""
    first = trainer(tmp_path, Remembers(), **settings)
    first.train_epoch(lambda *_: None)
    first.end_epoch(0.0)
    train_batches(first, 2)
    first.save()
    saved = first.state()
    second = trainer(tmp_path, Remembers(), **settings)
    assert flat(second.state()) != flat(saved)
    second.checkpoints.resume()
    assert flat(second.state()) == flat(saved)
    assert second.session.hooks.plugins["remembers"].calls > 2
    assert (second.position.epoch, second.position.batch) == (1, 2)
    # just written: the next one is due after as many batches as usual
    assert second.position.saved == second.position.micro_step


def test_a_resume_drops_the_history_of_epochs_that_are_trained_again(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    t.train_epoch(lambda *_: None)
    t.end_epoch(0.0)
    t.writer.wait()
    RunFolder(tmp_path).append({"event": "epoch", "epoch": 1})
    trainer(tmp_path).checkpoints.resume()
    assert [record["epoch"] for record in RunFolder(tmp_path).history()] == [0]


def test_a_resume_on_another_number_of_processes_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    train_batches(first, 2)
    path = RunFolder(tmp_path).checkpoint()
    save_checkpoint(path, {**first.state(), "world": 2})
    second = trainer(tmp_path)
    before = flat(second.state())
    with pytest.raises(MtlError, match=r"last\.ckpt: written by 2 process\(es\), resumed by 1; use the same number"):
        second.checkpoints.resume()
    assert flat(second.state()) == before


def test_a_batch_behind_the_end_of_the_epoch_is_refused(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    save_checkpoint(RunFolder(tmp_path).checkpoint(), {**first.state(), "batch": 7})
    with pytest.raises(MtlError, match="batch is 7, expected a whole number from 0 to 6"):
        first.checkpoints.resume()
    assert first.position.batch == 0
