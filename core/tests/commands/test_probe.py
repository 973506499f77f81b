"""``mtl probe``: its table, its record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mtl_core import cli
from mtl_core.commands.probe import _summary
from mtl_core.experiment import Experiment
from mtl_core.run_folder import RunFolder


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "x/term/depth/predictions": {"cosine": 0.5, "ratio": 12.4},
        "x/term/depth/head": {"cosine": -1, "ratio": 1},
    }
    asked: list[tuple[str, Path, int]] = []

    def measure(experiment: Experiment, folder: Path, batches: int, *_: object) -> Any:
        asked.append((experiment.name, folder, batches))
        return found

    monkeypatch.setattr("mtl_core.commands.probe.probe", measure)
    monkeypatch.setattr("mtl_core.settings.toml_file.load_experiment", lambda *_: Experiment(name="probed", plugins={}))
    file = tmp_path / "x.toml"
    shown = CliRunner().invoke(cli.app, ["probe", str(file), "--batches", "3"])
    assert shown.exit_code == 0
    assert [line.split() for line in shown.output.splitlines() if "x/term" in line] == [
        ["x/term", "depth", "+0.50", "(12)", "-1.00", "(1)", "–"]
    ]
    assert asked == [("probed", Path("runs/probed-0-probe"), 3)]
    shown = CliRunner().invoke(cli.app, ["probe", str(file), "--json"])
    assert json.loads(shown.output) == found


def test_the_record_has_means_over_the_epochs_and_the_last_one(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    name = "probe/x/term/depth/head"
    for epoch, (cosine, ratio) in enumerate([(0.2, 4.0), (None, None), (0.4, 1.0)]):
        run.append(
            {"event": "epoch", "epoch": epoch, f"{name}/cosine": cosine, f"{name}/ratio": ratio, "train/loss": 1.0}
        )
    (found,) = _summary(run).items()
    assert found[0] == "x/term/depth/head"
    assert found[1] == pytest.approx({"cosine": 0.3, "last cosine": 0.4, "ratio": 2.5, "last ratio": 1.0})


def test_a_run_without_a_probe_has_no_record(tmp_path: Path) -> None:
    RunFolder(tmp_path).append({"event": "epoch", "epoch": 0, "train/loss": 1.0})
    assert _summary(RunFolder(tmp_path)) == {}
