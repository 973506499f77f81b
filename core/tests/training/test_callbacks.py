"""Plugins and observers that look at epochs, know the folder and end the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mtl_core.commands.train import train
from mtl_core.errors import ContractError
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.hooks.relay import Hooks
from mtl_core.run_folder import RunFolder
from mtl_core.testing import EpochContract, failures
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer


@plugin
class EndAt:
    """Ends a run after an epoch, and writes what it saw into the folder."""

    epoch: int = 1

    @hookimpl
    def after_epoch(self, epoch: int, metrics: Mapping[str, float], run_folder: Path) -> bool:
        with (run_folder / "seen").open("a") as file:
            file.write(f"{epoch} {'train/loss' in metrics}\n")
        return epoch == self.epoch


@plugin
class Odd:
    """Answers, changes and writes what it must not."""

    how: str = ""

    @hookimpl
    def after_epoch(self, epoch: int, metrics: dict[str, float], run_folder: Path) -> object:
        if self.how == "metrics":
            metrics["mine"] = 1.0
        if self.how == "file":
            (run_folder / "metrics.jsonl").write_text("mine")
        if self.how == "raise":
            raise ValueError("no room")
        return 1 if self.how == "number" else None


def experiment(*plugins: object, **settings: Any) -> Experiment:
    options = {"epochs": 4, "validation": 0.0, "device": "cpu", "batch_size": 4} | settings
    return Experiment(name="t", plugins=[ToyData(size=(8, 8)), ToyLabels(), ToyNetwork(), *plugins], **options)


def test_a_plugin_ends_the_run(tmp_path: Path) -> None:
    run = train(experiment(EndAt()), tmp_path / "run")
    assert [record["epoch"] for record in run.history()] == [0, 1]
    assert run.history()[-1]["stopped"] == "a plugin asked for it"
    assert run.results.is_file()
    assert (run.folder / "seen").read_text() == "0 True\n1 True\n"
    train(experiment(EndAt()), tmp_path / "run", resume=True)
    assert len(run.history()) == 2


def test_every_plugin_is_asked(tmp_path: Path) -> None:
    hooks = Hooks({"a": EndAt(epoch=0), "b": EndAt(epoch=0)}, required=())
    assert hooks.after_epoch(0, {}, tmp_path) is True
    assert hooks.after_epoch(1, {}, tmp_path) is False
    assert len((tmp_path / "seen").read_text().splitlines()) == 4


def test_another_answer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="a value of the type int, expected True, False or None"):
        Hooks({"odd": Odd(how="number")}, required=()).after_epoch(0, {}, tmp_path)


def observed(folder: Path, observer: object) -> RunFolder:
    made, run = experiment(), RunFolder(folder)
    Trainer(prepare(made), make_fabric(made), run, Hooks({"observer": observer}, required=())).fit()
    return run


def test_an_observer_ends_a_run(tmp_path: Path) -> None:
    assert len(observed(tmp_path, EndAt(epoch=0)).history()) == 1


def test_an_error_of_an_observer_is_reported_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "mtl"):
        run = observed(tmp_path, Odd(how="raise"))
    assert len(run.history()) == 4
    assert (
        'the run goes on, but an observer failed after epoch 3: no room (in plugin "observer", hook after_epoch)'
        in caplog.text
    )


def test_the_contract_catches_what_must_not_be() -> None:
    assert set(failures(EpochContract, EndAt())) <= {"test_every_option_has_help"}
    caught = {how: set(failures(EpochContract, Odd(how=how))) for how in ("number", "metrics", "file")}
    assert "test_answers_whether_the_run_ends" in caught["number"]
    assert "test_leaves_the_metrics_as_they_are" in caught["metrics"]
    assert "test_leaves_the_files_of_the_run_alone" in caught["file"]
