"""What happens around training: ``before_run``, the folder's lock, the processes; which labels validation uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtl_core import Experiment, skipped_steps, train
from mtl_core.commands.train import differences
from mtl_core.data.sample import MultiTaskDataset, Sample
from mtl_core.errors import CheckpointError
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.run_folder import RunFolder
from mtl_core.testing.toys import TOY_TASKS, Shapes, ToyData, ToyLabels, ToyNetwork
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


def experiment(*plugins: object, **settings: Any) -> Experiment:
    options = {"epochs": 1, "batch_size": 2, "validation": 0.0} | settings
    return Experiment(name="r", plugins=[ToyData(), ToyLabels(), ToyNetwork(), *plugins], **options)


SEEN: list[bool] = []


@plugin
class Before:
    """Writes down whether the folder is locked when ``before_run`` is called."""

    @hookimpl
    def before_run(self, folder: Path) -> None:
        SEEN.append(RunFolder(folder).is_locked())


def test_the_folder_is_locked_from_before_run_on(tmp_path: Path) -> None:
    SEEN.clear()
    train(experiment(Before()), tmp_path, evaluate_on=None)
    assert SEEN == [True]
    assert not RunFolder(tmp_path).is_locked()


def test_a_folder_in_use_is_not_prepared(tmp_path: Path) -> None:
    SEEN.clear()
    with (
        RunFolder(tmp_path).locked(),
        pytest.raises(CheckpointError, match="another process is training in this folder"),
    ):
        train(experiment(Before()), tmp_path)
    assert SEEN == []


SCRIPT = """
import os, sys
from pathlib import Path
from mtl_core import Experiment, train
from mtl_core import hookimpl, plugin
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork

@plugin
class Note:
    @hookimpl
    def before_run(self, folder: Path) -> None:
        with open(folder / "calls", "a") as file:
            file.write(os.environ.get("LOCAL_RANK", "first") + "\\n")

plugins = [ToyData(), ToyLabels(), ToyNetwork(), Note()]
made = Experiment(name="r", plugins=plugins, epochs=1, batch_size=2, validation=0.0, device="cpu", devices=2)
train(made, sys.argv[1])
"""


@pytest.mark.slow
def test_processes_that_fabric_starts_find_the_folder_prepared(tmp_path: Path) -> None:
    """They run the script again from its beginning, while the first process holds the lock."""
    script = tmp_path / "script.py"
    folder = tmp_path / "run"
    script.write_text(SCRIPT)
    ended = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, check=False, timeout=240)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (folder / "calls").read_text() == "first\n"
    assert RunFolder(folder).results.is_file()


def test_settings_that_may_differ_are_the_callers_choice() -> None:
    longer = experiment(epochs=3, seed=2)
    assert differences(experiment(), longer) == ["seed was 0, now 2"]
    assert differences(experiment(), longer, free=("seed",)) == ["epochs was 1, now 3"]


@pytest.mark.parametrize("schedule", ["step", "cosine", "poly"])
def test_more_epochs_are_another_run_where_the_schedule_depends_on_them(schedule: str) -> None:
    made, longer = (experiment(epochs=n, schedule=schedule) for n in (16, 60))
    message = f'epochs was 16, now 60: schedule "{schedule}" would have had other rates in the epochs that are done'
    assert differences(made, longer) == [message]
    assert differences(made, longer, free=("seed",)) == ["epochs was 16, now 60"]


def test_more_epochs_at_a_constant_rate_are_the_same_run() -> None:
    assert differences(experiment(epochs=16), experiment(epochs=60, workers=2)) == []


@plugin
class Broken:
    """Turns the images of a run's last steps into NaN."""

    after: int = 0

    @hookimpl
    def setup(self) -> None:
        self.calls = 0

    @hookimpl
    def augment(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images * (float("nan") if self.calls > self.after else 1.0)


@pytest.mark.parametrize(("accumulate", "message"), [(1, "3 of 4 steps"), (2, "2 of 2 steps")])
def test_a_run_that_diverged_says_so(
    accumulate: int, message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(experiment(Broken(after=5), epochs=2, accumulate=accumulate), tmp_path, evaluate_on=None)
    skips = message.partition(" ")[0]
    sentence = f"epoch 2: {skips} steps were skipped, the gradients were not finite; lower learning_rate or set clip"
    assert [r.getMessage() for r in caplog.records if r.name == "mtl"] == [sentence]
    assert RunFolder(tmp_path).warned() == [{"epoch": 1, "message": sentence}]
    assert skipped_steps(RunFolder(tmp_path)).startswith(f"{message} of the last epoch were skipped")


def test_steps_that_are_still_skipped_at_the_end_are_told_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(experiment(Broken(after=5), epochs=3), tmp_path, evaluate_on=None)
    reported = [r.getMessage() for r in caplog.records if r.name == "mtl"]
    assert [message.partition(",")[0] for message in reported] == [
        "epoch 2: 3 steps were skipped", "4 of 4 steps of the last epoch were skipped",
    ]  # fmt: skip


def test_a_run_that_did_not_diverge_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(experiment(), tmp_path, evaluate_on=None)
    assert not [r for r in caplog.records if r.name == "mtl"]
    assert skipped_steps(RunFolder(tmp_path)) == ""


class Guessed(Shapes):
    """Depth of 9 m everywhere."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return Sample(sample.image, sample.targets | {"depth": torch.full_like(sample.targets["depth"], 9.0)})


@plugin
class Guesses:
    """Labels that nobody measured; the mask is written in place, which a plugin should not do."""

    @hookimpl
    def relabel(self, labelled: Tensor) -> tuple[MultiTaskDataset, Tensor]:
        return Guessed(8, (32, 32), "train"), labelled.fill_(True)


def test_validation_uses_the_labels_from_before_relabel(tmp_path: Path) -> None:
    """Learned are all of the plugin's labels; measured, in the tasks that are learned, those of the scenario."""
    made = experiment(Guesses(), validation=0.5, tasks=("depth", "segmentation"))
    trainer = Trainer(prepare(made), make_fabric(made), RunFolder(tmp_path))
    given = ToyLabels().make_label_mask(8, TOY_TASKS, torch.Generator())
    true = Shapes(8, (32, 32), "train")
    for batch in trainer.data.validation:
        assert torch.equal(batch.labelled, given[batch.index][:, [1, 0]])
        for depth, labelled, index in zip(batch.targets["depth"], batch.labelled[:, 0], batch.index, strict=True):
            assert torch.equal(depth, true[int(index)].targets["depth"] * labelled)
    for batch in trainer.data.training:
        assert batch.labelled.all()
        assert (batch.targets["depth"] == 9).all()
