"""When a run's checkpoints are due, what they hold, and how a run goes on from one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mtl_core.errors import MtlError
from mtl_core.experiment import Experiment
from mtl_core.run_folder import RunFolder
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training.checkpoint import load_checkpoint
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


def trainer(folder: Path, **settings: Any) -> Trainer:
    options = {"epochs": 2, "batch_size": 2, "validation": 0.0, "device": "cpu"} | settings
    made = Experiment(name="t", plugins=[ToyData(), ToyLabels(), ToyNetwork()], **options)
    return Trainer(prepare(made), make_fabric(made), RunFolder(folder))


@pytest.mark.parametrize(
    ("settings", "due"),
    [
        ({}, []),
        ({"checkpoint_steps": 2}, [2, 4, 6]),
        ({"checkpoint_steps": 3}, [3, 6]),
        # never between the micro-batches of one step, whose gradients no checkpoint holds
        ({"checkpoint_steps": 3, "accumulate": 2}, [4]),
    ],
)
def test_when_a_checkpoint_is_due(tmp_path: Path, settings: dict[str, Any], due: list[int]) -> None:
    checkpoints = trainer(tmp_path, **settings).checkpoints
    position = checkpoints._position
    found = []
    for _ in range(7):
        position.after_batch()
        if checkpoints.is_due():
            found.append(position.micro_step)
            position.saved = position.micro_step
    assert found == due


def test_the_best_checkpoint_predicts_and_the_last_one_resumes(tmp_path: Path) -> None:
    """Optimizer state is as large as the network or twice as large: only the file that is resumed from has it."""
    t = trainer(tmp_path, validation=0.25, ema=0.9)
    t.fit()
    last, best = (load_checkpoint(RunFolder(tmp_path).checkpoint(name)) for name in ("last", "best"))
    needed_to_predict = {"step", "epoch", "ema", "tasks", "image_size", "experiment"}
    assert needed_to_predict <= best.keys()
    assert "optimizer" not in best
    assert {"optimizer", "schedule", "averages", "selection", "batch", "number", "world"} <= last.keys()


def test_a_resume_drops_the_history_of_epochs_that_it_repeats(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    t.fit()
    run = RunFolder(tmp_path)
    run.append({**run.history()[-1], "epoch": 2})
    again = trainer(tmp_path)
    again.resume()
    assert [record["epoch"] for record in run.history()] == [0, 1]
    assert (again.position.epoch, again.position.batch, again.position.micro_step) == (2, 0, 8)


def test_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    t.fit()
    path = RunFolder(tmp_path).checkpoint()
    state = load_checkpoint(path)
    torch.save({**state, "world": 3}, path)
    with pytest.raises(MtlError, match=r"written by 3 process\(es\), resumed by 1"):
        trainer(tmp_path).resume()
