"""The metrics that a suite names, before anything is trained; tables that cannot be written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_runs import SUITE_DEFAULTS

from mtl_core import CheckpointError, ExperimentError, RunFolder
from mtl_core.testing import main
from mtl_suite.known import check_metrics
from mtl_suite.plan import load_suite
from mtl_suite.results import collect

SUITE = (
    """
name = "tiny"
METRICS
[defaults]
epochs = 1
batch_size = 4
validation = 0.25
"""
    + SUITE_DEFAULTS
    + """[defaults.plugins.onelabel]
[experiments.supervised]
[experiments.grid]
choose_on = "depth/rmse"
vary = { learning_rate = [0.1, 0.2] }
"""
)


NONE = ("", "")


def write(folder: Path, metrics: str = "", change: tuple[str, str] = NONE) -> Path:
    path = folder / "suite.toml"
    path.write_text(SUITE.replace("METRICS", metrics).replace(*change))
    return path


MISTAKES = {
    "metrics": (
        'metrics = ["segmentation/miou", "depth/abs_er"]', NONE,
        'metrics: no metric "depth/abs_er"; did you mean "depth/abs_err"? (there are: segmentation/miou, ',
    ),
    "no such task": (
        'metrics = ["dpeth/rmse"]', NONE,
        'metrics: no metric "dpeth/rmse"; did you mean "depth/rmse"',
    ),
    "choose_on": (
        "", ("depth/rmse", "depth/rsme"),
        'experiments.grid.choose_on: no metric "depth/rsme"; did you mean "depth/rmse"',
    ),
    "choose_on, another task": (
        "", ('choose_on = "d', 'tasks = ["segmentation"]\nchoose_on = "d'),
        'choose_on: no metric "depth/rmse" (there are: ',
    ),
    "no validation": (
        "", ("validation = 0.25", "validation = 0"),
        "experiments.grid.choose_on: needs validation data; set validation above 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_a_metric_that_does_not_exist_is_told_before_anything_is_trained(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics, change, expected = MISTAKES[case]
    with pytest.raises(SystemExit) as stop:
        main(["suite", str(write(tmp_path, metrics, change)), "--out", str(tmp_path / "runs")])
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert f"{tmp_path / 'suite.toml'}: 1 problem" in shown
    assert expected in shown
    assert not (tmp_path / "runs").exists()


def test_metrics_that_any_run_gives_are_right(tmp_path: Path) -> None:
    """Also those of tasks that only some of the rows learn."""
    change = ("[experiments.supervised]", '[experiments.stl]\neach_task = ["normals", "depth"]')
    metrics = 'metrics = ["depth/rmse", "normals/mean_angle"]'
    check_metrics(load_suite(write(tmp_path, metrics, change), folder=tmp_path / "runs"))


def test_data_that_are_elsewhere_are_left_to_the_jobs(tmp_path: Path) -> None:
    """A cluster's node may have what the machine that hands in the jobs has not."""
    change = (
        "[defaults.plugins.scenes]\nsize = [32, 32]\ntrain = 8\ntest = 4",
        '[defaults.plugins.nyuv2]\nroot = "no"',
    )
    check_metrics(load_suite(write(tmp_path, 'metrics = ["depth/abs_er"]', change), folder=tmp_path / "runs"))


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    suite = load_suite(
        write(tmp_path, 'metrics = ["depth/a", "depth/b"]', ("depth/rmse", "c")), folder=tmp_path / "runs"
    )
    with pytest.raises(ExperimentError, match="3 problems"):
        check_metrics(suite)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"epoch": 0, "val/depth/abs_err": 1.0}, r'of depth/rmse; did you mean "depth/\w+"\? \(it has depth/abs_err\)'),
        ({"epoch": 0}, r"of depth/rmse \(it kept no validation data\)"),
    ],
)
def test_nothing_is_chosen_by_a_metric_that_the_runs_lack(
    tmp_path: Path, record: dict[str, float], expected: str
) -> None:
    suite = load_suite(write(tmp_path), folder=tmp_path / "runs")
    for job in suite.jobs:
        job.folder.mkdir(parents=True)
        (job.folder / "experiment.toml").write_text(job.text)
        results = {
            "name": job.row, "seed": 0, "split": "test", "checkpoint": "last", "epoch": 1,
            "metrics": {"depth/rmse": 1.0}, "headline": {"depth/rmse": False},
        }  # fmt: skip
        (job.folder / "results.json").write_text(json.dumps(results))
        RunFolder(job.folder).append(record)
    with pytest.raises(CheckpointError, match=expected):
        collect(suite)


@pytest.mark.slow
def test_a_table_that_cannot_be_written_does_not_end_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    (out / "table.txt").mkdir(parents=True)
    path = write(tmp_path)
    path.write_text(path.read_text().partition("[experiments.grid]")[0])
    with pytest.raises(SystemExit) as stop:
        main(["suite", str(path), "--out", str(out), "--json"])
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert f"mtl: the table in {out} was not written: " in shown.err
    assert [row["runs"] for row in json.loads(shown.out)["sections"][0]["rows"]] == [1]
