"""Runs in a suite's folder that are not those asked for: fewer epochs, more epochs, other settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_runs import SUITE_DEFAULTS

from mtl_core import CheckpointError, RunFolder
from mtl_core.testing import command
from mtl_suite.plan import Suite, load_suite
from mtl_suite.results import collect

SUITE = (
    """
name = "tiny"
[defaults]
epochs = 2
batch_size = 4
"""
    + SUITE_DEFAULTS
    + """[defaults.plugins.onelabel]
[experiments.supervised]
[experiments.consistency]
plugins.consistency = {}
"""
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "suite.toml").write_text(SUITE)
    return tmp_path / "suite.toml"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def pretend(suite: Suite, epochs: int, evaluated: int | None = None, checkpoint: str = "last") -> None:
    """Write what runs of some epochs leave."""
    for job in suite.jobs:
        job.folder.mkdir(parents=True)
        (job.folder / "experiment.toml").write_text(job.text)
        record = {
            "name": job.row, "seed": job.seed, "split": "test", "checkpoint": checkpoint, "epoch": evaluated or epochs,
            "metrics": {"depth/abs_err": 1.0}, "headline": {"depth/abs_err": False},
        }  # fmt: skip
        (job.folder / "results.json").write_text(json.dumps(record))
        for epoch in range(epochs):
            RunFolder(job.folder).append({"epoch": epoch})


def test_runs_of_all_epochs_are_done(path: Path, out: Path) -> None:
    pretend(load_suite(path, folder=out), epochs=2)
    assert all(job.done for job in load_suite(path, folder=out).jobs)
    assert all(job.done for job in load_suite(path, ["workers=2", "device=cpu"], out).jobs)


def test_runs_of_fewer_epochs_are_not_done(path: Path, out: Path) -> None:
    pretend(load_suite(path, folder=out), epochs=2)
    more = load_suite(path, ["epochs=3"], out)
    assert not any(job.done for job in more.jobs)
    assert [line.runs for line in collect(more).sections[0].lines] == [(0, 1), (0, 1)]


def test_more_epochs_under_a_schedule_are_another_run(path: Path, out: Path) -> None:
    """The epochs that are done would have had other learning rates."""
    pretend(load_suite(path, ["schedule=cosine"], out), epochs=2)
    with pytest.raises(CheckpointError, match=r'supervised-0 and 1 more: epochs was 2, now 3: schedule "cosine" would'):
        load_suite(path, ["schedule=cosine", "epochs=3"], out)


def test_a_run_stopped_between_its_last_epoch_and_its_results_is_not_done(path: Path, out: Path) -> None:
    """It was trained further: all epochs are logged, the results are those of before."""
    pretend(load_suite(path, folder=out), epochs=2, evaluated=1)
    assert not any(job.done for job in load_suite(path, folder=out).jobs)


def test_a_run_whose_best_checkpoint_was_evaluated_since_is_done(path: Path, out: Path) -> None:
    pretend(load_suite(path, folder=out), epochs=2, evaluated=1, checkpoint="best")
    assert all(job.done for job in load_suite(path, folder=out).jobs)


def test_results_that_cannot_be_read_are_none(path: Path, out: Path) -> None:
    suite = load_suite(path, folder=out)
    pretend(suite, epochs=2)
    RunFolder(suite.jobs[0].folder).results.write_text("{")
    assert [job.done for job in suite.jobs] == [False, True]


def test_more_epochs_than_asked_for_are_an_error(path: Path, out: Path) -> None:
    pretend(load_suite(path, ["epochs=3"], out), epochs=3)
    with pytest.raises(CheckpointError, match="supervised-0 and 1 more: epochs: 3 are trained, now 2"):
        load_suite(path, folder=out)


def test_more_epochs_are_found_before_their_results_are_there(path: Path, out: Path) -> None:
    suite = load_suite(path, ["epochs=3"], out)
    pretend(suite, epochs=3)
    for job in suite.jobs:
        RunFolder(job.folder).results.unlink()
    with pytest.raises(CheckpointError, match="epochs: 3 are trained, now 2"):
        load_suite(path, folder=out)


def test_a_run_that_was_to_go_on_for_longer_may_stop_earlier(path: Path, out: Path) -> None:
    pretend(load_suite(path, ["epochs=9"], out), epochs=1)
    assert not any(job.done for job in load_suite(path, folder=out).jobs)


@pytest.mark.parametrize("table", [["--table"], []])
def test_other_settings_are_one_error_before_anything_is_trained(
    path: Path, out: Path, table: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(load_suite(path, folder=out), epochs=2)
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    settings = ["--set", "epochs=3", "--set", "learning_rate=0.5", "--set", "plugins.consistency.weight=2"]
    assert command("suite", path, "--out", out, *settings, *table) == 2
    shown = capsys.readouterr().err
    assert "choose another --out, or set what differs as it was" in shown
    assert f"{out / 'supervised-0'} and 1 more: learning_rate was 0.0001, now 0.5\n" in shown
    assert f"{out / 'consistency-0'}: plugins.consistency.weight was 1.0, now 2.0\n" in shown
    assert "epochs" not in shown
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == before


def test_another_plugin_is_another_setting(path: Path, out: Path) -> None:
    pretend(load_suite(path, folder=out), epochs=2)
    path.write_text(SUITE + "[experiments.supervised.plugins.uw]\n")
    with pytest.raises(CheckpointError, match=r"supervised-0: plugins\.uw\.initial_sigma was absent, now 1\.0"):
        load_suite(path, folder=out)


def test_a_setting_that_an_old_run_lacks_counts_as_its_default(path: Path, out: Path) -> None:
    suite = load_suite(path, folder=out)
    pretend(suite, epochs=2)
    for job in suite.jobs:
        lines = [line for line in job.text.splitlines() if not line.startswith(("clip", "norm", "weight"))]
        assert len(lines) < len(job.text.splitlines())
        RunFolder(job.folder).experiment.write_text("\n".join(lines))
    assert all(job.done for job in load_suite(path, folder=out).jobs)
    with pytest.raises(CheckpointError, match="supervised-0 and 1 more: clip was none, now 2"):
        load_suite(path, ["clip=2"], out)


@pytest.mark.slow
def test_a_finished_suite_is_trained_further(path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(SUITE.replace("[experiments.consistency]\nplugins.consistency = {}\n", ""))
    run = RunFolder(out / "supervised-0")
    for epochs in (1, 3):
        assert command("suite", path, "--out", out, "--set", f"epochs={epochs}") == 0
        assert "supervised seed 0: done" in capsys.readouterr().err
        assert json.loads(run.results.read_text())["epoch"] == len(run.history()) == epochs


def test_a_set_of_runs_is_compared_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``mtl train-each --resume`` leaves alone what is finished, by the same rule."""
    head = SUITE.partition("[experiments")[0].replace("defaults.", "").replace("[defaults]\n", "")
    (tmp_path / "one.toml").write_text(head.replace("epochs = 2", 'epochs = 1\ntasks = ["depth"]'))

    def train(*settings: str) -> int:
        arguments = ["train-each", tmp_path / "one.toml", "--resume", "--quiet", "--out", tmp_path / "set"]
        return command(*arguments, *settings)

    run = RunFolder(tmp_path / "set" / "depth")
    assert train() == 0
    stamp = run.results.stat().st_mtime_ns
    assert train() == 0
    assert run.results.stat().st_mtime_ns == stamp
    assert train("--set", "epochs=2") == 0
    assert len(run.history()) == json.loads(run.results.read_text())["epoch"] == 2
    assert train("--set", "epochs=2", "--set", "learning_rate=0.5") == 2
    assert "depth: learning_rate was 0.0001, now 0.5" in capsys.readouterr().err


@pytest.mark.parametrize("scenario", ["../outside", "a/../../../outside"])
def test_a_scenarios_name_does_not_lead_out_of_the_suites_folder(tmp_path: Path, scenario: str) -> None:
    from mtl_core import ExperimentError
    from mtl_suite import load_suite

    file = tmp_path / "suite.toml"
    text = f'''
name = "s"
seeds = [0]
reference = "base"
[experiments.base]
[scenarios."{scenario}"]
[scenarios."{scenario}".plugins.full]
[defaults.plugins.scenes]
[defaults.plugins.segnet]
'''
    file.write_text(text, "utf-8")
    with pytest.raises(ExperimentError, match="lies outside"):
        load_suite(file, [], tmp_path / "runs")


def test_an_experiment_of_a_suite_drops_a_plugin_of_the_defaults(tmp_path: Path) -> None:
    text = 'name = "s"\n[defaults.plugins.scenes]\n[defaults.plugins.full]\n[defaults.plugins.segnet]\n'
    text += '[defaults.plugins.uniform]\n[experiments.with]\n[experiments.bare]\nwithout = ["uniform"]\n'
    (tmp_path / "s.toml").write_text(text, "utf-8")
    jobs = load_suite(tmp_path / "s.toml", folder=tmp_path / "runs").jobs
    assert ["uniform" in job.text for job in jobs] == [True, False]
    assert not any("without" in job.text for job in jobs)


def test_an_experiments_file_may_have_a_base(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("epochs = 3\n[plugins.scenes]\n[plugins.full]\n[plugins.segnet]\n", "utf-8")
    (tmp_path / "x.toml").write_text('base = "base.toml"\nbatch_size = 2\n', "utf-8")
    (tmp_path / "s.toml").write_text('name = "s"\n[experiments.x]\nfile = "x.toml"\n', "utf-8")
    (job,) = load_suite(tmp_path / "s.toml", folder=tmp_path / "runs").jobs
    assert "epochs = 3" in job.text
    assert "batch_size = 2" in job.text
