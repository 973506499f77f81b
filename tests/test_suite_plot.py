"""A suite's plot and its table in Markdown: the values of the table, also where each task is the primary in turn."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from mtl_core import RunFolder
from mtl_core.testing import main
from mtl_suite.plan import Suite, load_suite

TEXT = """
name = "tiny"
title = "Each task in turn"
seeds = [0, 1]
reference = "uniform"
[defaults]
epochs = 1
[defaults.plugins.scenes]
size = [32, 32]
train = 8
test = 4
[defaults.plugins.segnet]
width = 4
[scenarios.full]
title = "every label"
plugins.full = {}
[scenarios.one]
title = "one label"
reference = "full"
plugins.onelabel = {}
[experiments.uniform]
title = "Uniform"
[experiments.ial]
title = "IAL"
each_primary = ["segmentation", "depth"]
plugins.ial = { primary = "depth" }
"""

HEADLINE = {"segmentation/miou": True, "depth/abs_err": False}


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """The plan of a suite none of whose runs has begun."""
    path = tmp_path / "suite.toml"
    path.write_text(TEXT)
    return load_suite(path, folder=tmp_path / "runs")


def finish(suite: Suite, scenario: str, row: str, values: dict[str, tuple[float, float]]) -> None:
    """Write what the runs of a row would have written.

    :param values: part → (mIoU, absolute error), to which the seed is added
    """
    for job in suite.jobs:
        if (job.scenario, job.row) != (scenario, row):
            continue
        job.folder.mkdir(parents=True)
        (job.folder / "experiment.toml").write_text(job.text)
        found = [value + job.seed for value in values[job.part]]
        record = {
            "name": row, "seed": job.seed, "split": "test", "checkpoint": "last", "epoch": 1, "headline": HEADLINE,
            "metrics": dict(zip(HEADLINE, found, strict=True)), "counts_for": tomllib.loads(job.text)["counts_for"],
            "units": {"segmentation/miou": "%", "depth/abs_err": "m"},
        }  # fmt: skip
        (job.folder / "results.json").write_text(json.dumps(record))
        RunFolder(job.folder).append({"epoch": 0})


def command(suite: Suite, *arguments: object) -> object:
    with pytest.raises(SystemExit) as stop:
        main(["suite", str(suite.source), "--out", str(suite.folder), "--table", *map(str, arguments)])
    return stop.value.code


def test_every_task_comes_from_the_run_where_it_is_primary(
    suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(suite, "full", "uniform", {"": (10.0, 4.0)})
    finish(suite, "full", "ial", {"segmentation": (20.0, 90.0), "depth": (1.0, 2.0)})
    assert command(suite, "--plot", tmp_path / "ours.svg", "--markdown") == 0
    for path in (tmp_path / "ours.svg", suite.folder / "plot.svg"):
        drawn = path.read_text()
        for seed, miou, depth in ((0, 20, 2), (1, 21, 3)):
            assert f"<title>IAL, seed {seed}: {miou}</title>" in drawn
            assert f"<title>IAL, seed {seed}: {depth}</title>" in drawn
        assert "seed 0: 90<" not in drawn
        assert "seed 0: 1<" not in drawn
    shown = capsys.readouterr().out
    assert "| IAL | 2 | **20.5 ± 0.71** | **2.5 ± 0.71** | +69.8 ± 4.5 |" in shown
    assert (suite.folder / "table.md").read_text() == shown


def test_each_scenario_names_its_reference(suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(suite, "full", "uniform", {"": (10.0, 4.0)})
    finish(suite, "one", "uniform", {"": (8.0, 5.0)})
    assert command(suite, "--plot", tmp_path / "plot.svg", "--markdown") == 0
    drawn = (tmp_path / "plot.svg").read_text()
    assert ">every label (line: mean of Uniform)</text>" in drawn
    assert ">one label (line: mean of Uniform, every label)</text>" in drawn
    assert drawn.count(">no run finished</text>") == 2
    shown = capsys.readouterr().out
    assert "**one label (Δ% against Uniform, every label)**" in shown
    assert "Δ% against what each heading names" in shown
    assert shown.count("| IAL | no run finished | – | – | – |") == 2


def test_values_of_every_seed_are_in_the_json(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    finish(suite, "full", "uniform", {"": (10.0, 4.0)})
    assert command(suite, "--json") == 0
    row = json.loads(capsys.readouterr().out)["sections"][0]["rows"][0]
    assert (row["seeds"], row["values"]) == ([0, 1], {"segmentation/miou": [10.0, 11.0], "depth/abs_err": [4.0, 5.0]})


def test_a_suite_without_results_has_a_table_and_says_that_there_is_nothing_to_draw(
    suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(suite, "--plot", tmp_path / "plot.svg") != 0
    assert "Each task in turn: no run is finished, so there is nothing to draw" in capsys.readouterr().err
    assert command(suite) == 0
    assert (suite.folder / "table.md").is_file()
    assert not (suite.folder / "plot.svg").exists()


def test_a_picture_that_cannot_be_written_is_told_before_anything_is_trained(
    suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["suite", str(suite.source), "--out", str(suite.folder), "--plot", str(tmp_path / "plot.jpg")])
    assert stop.value.code != 0
    assert "plot.jpg: expected the name of a picture that ends in .svg or .png" in capsys.readouterr().err
    assert not suite.folder.exists()
