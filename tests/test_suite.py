"""Suites: plans, runs through submitit, what is skipped and resumed, tables, and messages."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import SUITE_DEFAULTS

from mtl_core import CheckpointError, ExperimentError, RunFolder
from mtl_core.testing import command
from mtl_suite.engine import Process
from mtl_suite.outputs import write_tables
from mtl_suite.plan import Suite, load_suite
from mtl_suite.results import Table, collect, to_json
from mtl_suite.tables import html, latex

HEAD = (
    """
name = "tiny"
title = "A_tiny & suite"
seeds = [0, 1]
reference = "supervised"
[defaults]
epochs = 1
batch_size = 4
"""
    + SUITE_DEFAULTS
    + """[scenarios.one]
title = "one label"
plugins.onelabel = {}
[scenarios.full.plugins.full]
"""
)
ROWS = """
[experiments.supervised]
title = "Supervised MTL"
[experiments.stl]
title = "STL"
each_task = ["segmentation", "depth", "normals"]
[experiments.ial]
only = ["one"]
each_primary = ["segmentation", "depth", "normals"]
plugins.ial = { primary = "depth" }
[experiments.grid]
only = ["full"]
choose_on = "depth/abs_err"
vary = { learning_rate = [0.1, 0.2], "plugins.segnet.width" = [2] }
"""


def write(folder: Path, text: str = HEAD + ROWS) -> Path:
    path = folder / "suite.toml"
    path.write_text(text)
    return path


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return load_suite(write(tmp_path), folder=tmp_path / "runs")


def pretend(
    suite: Suite, row: str, scenario: str, seed: int, values: dict[str, float], part: str = "", **more: Any
) -> None:
    """Write the results that a run would have written."""
    for job in suite.jobs:
        if (job.row, job.scenario, job.seed) == (row, scenario, seed) and job.part.startswith(part):
            experiment = tomllib.loads(job.text)
            job.folder.mkdir(parents=True)
            (job.folder / "experiment.toml").write_text(job.text)
            tasks = experiment["tasks"] or ["segmentation", "depth"]
            headline = {f"{t}/{m}": up for t, m, up in (("segmentation", "miou", True), ("depth", "abs_err", False))}
            record = {
                "name": row, "seed": seed, "split": "test", "checkpoint": "last", "epoch": 1,
                "counts_for": experiment["counts_for"],
                "metrics": {n: v for n, v in values.items() if n.split("/")[0] in tasks},
                "headline": {n: up for n, up in headline.items() if n.split("/")[0] in tasks},
            }  # fmt: skip
            (job.folder / "results.json").write_text(json.dumps(record))
            RunFolder(job.folder).append({"epoch": 0, **more})


def test_the_plan_is_every_row_scenario_seed_and_part(suite: Suite) -> None:
    folders = [str(job.folder.relative_to(suite.folder)) for job in suite.jobs]
    first = [f for f in folders if "-0" in f]
    assert first == [
        "one/supervised-0", "one/stl-0/segmentation", "one/stl-0/depth", "one/stl-0/normals", "one/ial-0/segmentation",
        "one/ial-0/depth", "one/ial-0/normals", "full/supervised-0", "full/stl-0/segmentation", "full/stl-0/depth",
        "full/stl-0/normals", "full/grid-0/learning_rate=0.1,width=2", "full/grid-0/learning_rate=0.2,width=2",
    ]  # fmt: skip
    assert folders == first + [f.replace("-0", "-1") for f in first]


def test_every_job_is_the_defaults_the_scenario_and_the_row_together(suite: Suite) -> None:
    jobs = {(job.row, job.scenario, job.part, job.seed): tomllib.loads(job.text) for job in suite.jobs}
    ial = jobs["ial", "one", "normals", 1]
    assert (ial["seed"], ial["epochs"], ial["plugins"]["segnet"]["width"]) == (1, 1, 4)
    assert (ial["plugins"]["ial"]["primary"], ial["counts_for"], ial["tasks"]) == ("normals", ["normals"], [])
    assert list(ial["plugins"]) == ["scenes", "segnet", "onelabel", "ial"]
    stl = jobs["stl", "full", "depth", 0]
    assert (stl["tasks"], stl["counts_for"]) == (["depth"], ["depth"])
    grid = jobs["grid", "full", "learning_rate=0.2,width=2", 0]
    assert (grid["learning_rate"], grid["plugins"]["segnet"]["width"]) == (0.2, 2)


def test_overrides_reach_the_experiments_that_have_the_plugin(tmp_path: Path) -> None:
    found = load_suite(write(tmp_path), ["plugins.ial.initial_weight=0.5", "epochs=3"])
    tables = [tomllib.loads(job.text) for job in found.jobs]
    assert {t["epochs"] for t in tables} == {3}
    assert {t["plugins"].get("ial", {}).get("initial_weight") for t in tables} == {None, 0.5}


def test_an_experiment_may_begin_with_a_file(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('name = "base"\nepochs = 7\n[plugins.ial]\nprimary = "depth"\n')
    found = load_suite(write(tmp_path, HEAD + '[experiments.supervised]\nfile = "base.toml"\nbatch_size = 2\n'))
    document = tomllib.loads(found.jobs[0].text)
    assert (document["name"], document["epochs"], document["batch_size"]) == ("supervised", 7, 2)


MISTAKES = {
    "no experiment": (HEAD, "experiments: expected a table for each experiment"),
    "unknown setting": ("colour = 1\n" + HEAD + ROWS, "colour: unknown setting"),
    "reference": (HEAD.replace('"supervised"', '"superviced"') + ROWS, 'no experiment "superviced" in the'),
    "scenario": (HEAD + ROWS.replace('["one"]', '["ome"]'), 'experiments.ial.only: no scenario "ome"; did'),
    "engine": (HEAD + ROWS + '[engine]\ncluster = "slurn"\n', 'engine.cluster: expected one of "local", "slurm"'),
    "parallel": (HEAD + ROWS + "[engine]\nparallel = 0\n", "engine.parallel: "),
    "option": (HEAD + ROWS.replace("plugins.ial =", "plugins.iall ="), 'did you mean "ial"?'),
    "no primary": (HEAD + ROWS.replace("plugins.ial = { primary = \"depth\" }", ""), 'no plugin of the'),
    "both sets": (HEAD + ROWS.replace("each_primary", 'each_task = ["depth"]\neach_primary'), "exclude each other"),
    "seeds": (HEAD.replace("[0, 1]", "[0, -1]") + ROWS, "seeds: "),
    "other scenario": ("[scenarios.two]\nreference = \"ome\"\n", 'scenarios.two.reference: no scenario "ome"; did you'),
    "no table": (HEAD + "experiments = 3\n", "not valid TOML"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_messages(tmp_path: Path, case: str) -> None:
    text, expected = MISTAKES[case]
    text = HEAD + text + ROWS if case == "other scenario" else text
    if case == "no table":
        expected = "experiments: expected a table"
        text = "experiments = 3\n" + HEAD
    with pytest.raises(ExperimentError) as error:
        load_suite(write(tmp_path, text))
    assert expected in str(error.value)
    assert str(tmp_path / "suite.toml") in str(error.value) or case == "no primary"


def test_an_override_for_a_plugin_that_no_experiment_has(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match='no experiment has a plugin "ia"; did you mean "ial"'):
        load_suite(write(tmp_path), ["plugins.ia.primary=depth"])


def fill(suite: Suite) -> Table:
    """Two seeds of the reference in one scenario, one of STL without its normals, and the grid."""
    pretend(suite, "supervised", "one", 0, {"segmentation/miou": 10.0, "depth/abs_err": 1.0})
    pretend(suite, "supervised", "one", 1, {"segmentation/miou": 14.0, "depth/abs_err": 1.0})
    pretend(suite, "stl", "one", 0, {"segmentation/miou": 6.0, "depth/abs_err": 0.5}, "segmentation")
    pretend(suite, "stl", "one", 0, {"segmentation/miou": 6.0, "depth/abs_err": 0.5}, "depth")
    pretend(suite, "supervised", "full", 0, {"segmentation/miou": 20.0, "depth/abs_err": 0.8})
    worse = {"val/depth/abs_err": 0.9}
    better = {"val/depth/abs_err": 0.7}
    pretend(suite, "grid", "full", 0, {"segmentation/miou": 1.0, "depth/abs_err": 0.4}, "learning_rate=0.1", **worse)
    pretend(suite, "grid", "full", 0, {"segmentation/miou": 30.0, "depth/abs_err": 0.4}, "learning_rate=0.2", **better)
    return collect(suite)


def test_rows_are_what_is_finished(suite: Suite) -> None:
    one, full = fill(suite).sections
    lines = {line.title: line for line in one.lines}
    assert lines["Supervised MTL"].row is not None
    assert lines["Supervised MTL"].row.metrics["segmentation/miou"] == (12.0, pytest.approx(8**0.5))
    assert lines["STL"].runs == (0, 2)  # its normals are missing
    grid = {line.title: line for line in full.lines}["grid"]
    assert grid.chosen == ("learning_rate=0.2,width=2",)  # by validation data, not by the test split
    assert grid.row is not None
    assert grid.row.delta[0] == pytest.approx((50 + 50) / 2)


def test_parts_become_one_row(suite: Suite) -> None:
    pretend(suite, "supervised", "one", 0, {"segmentation/miou": 10.0, "depth/abs_err": 1.0, "normals/mean_angle": 9.0})
    for task in ("segmentation", "depth", "normals"):
        values = {"segmentation/miou": 12.0, "depth/abs_err": 0.5, "normals/mean_angle": 9.0}
        pretend(suite, "stl", "one", 0, values, task)
    line = next(line for line in collect(suite).sections[0].lines if line.title == "STL")
    assert line.runs == (1, 2)
    assert line.row is not None
    assert line.row.metrics["segmentation/miou"][0] == 12.0
    assert line.row.delta[0] == pytest.approx((20 + 50) / 2)


def test_a_column_of_a_task_is_what_its_change_is_measured_by(tmp_path: Path) -> None:
    columns = 'metrics = ["depth/rmse", "segmentation/miou", "depth/abs_err"]\n'
    made = load_suite(write(tmp_path, columns + HEAD + ROWS), folder=tmp_path / "runs")
    values = {"segmentation/miou": 10.0, "depth/abs_err": 1.0, "depth/rmse": 2.0}
    pretend(made, "supervised", "one", 0, values)
    for task in ("segmentation", "depth", "normals"):
        pretend(made, "stl", "one", 0, values | {"depth/rmse": 1.0}, task)
    table = collect(made)
    assert table.metrics == {"depth/rmse": False, "segmentation/miou": True, "depth/abs_err": None}
    line = next(line for line in table.sections[0].lines if line.title == "STL")
    assert line.row is not None
    assert line.row.delta[0] == pytest.approx((0 + 50) / 2)


class Cells(HTMLParser):
    """Every element must be closed by the parser's rules; cells are collected."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)


def test_the_table_in_every_form(suite: Suite) -> None:
    table = fill(suite)
    record = json.loads(to_json(table))
    assert record["sections"][0]["rows"][0]["metrics"]["segmentation/miou"][0] == 12.0
    text = latex(table)
    assert r"A\_tiny" not in text  # the title is the caption's business
    assert r"Supervised MTL & \textbf{12 $\pm$ 2.8} & 1 $\pm$ 0" not in text  # alone in its column: nothing is best
    assert r"Supervised MTL & 12 $\pm$ 2.8 & 1 $\pm$ 0 & +0.0 $\pm$ " in text
    assert text.count(r"\\") == text.count("\n") - text.count("rule\n") - 2
    assert r"grid [learning\_rate=0.2,width=2] (1 of 2 seeds) & \textbf{30} & \textbf{0.4}" in text
    parser = Cells()
    parser.feed(html(table))
    assert "A_tiny & suite" in parser.found
    assert "12 ± 2.8" in parser.found
    write_tables(suite)
    assert {p.suffix for p in suite.folder.glob("table.*")} == {".txt", ".json", ".tex", ".html", ".md"}
    assert "Supervised MTL" in (suite.folder / "table.txt").read_text()


def test_a_suite_runs_skips_goes_on_and_reports_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two processes at a time; one row cannot be built for its data, and fails alone."""
    rows = '[experiments.supervised]\n[experiments.broken]\ntasks = ["dept"]\n'
    text = HEAD.replace("[0, 1]", "[0]").replace("[scenarios.full.plugins.full]", "") + rows
    path = write(tmp_path, text)
    out = tmp_path / "runs"
    assert command("suite", path, "--out", out, "--parallel", 2) == 2
    shown = capsys.readouterr()
    assert "1 of 2 runs failed" in shown.err
    assert "tasks: the data set has no task 'dept'; did you mean \"depth\"?" in shown.err
    done = out / "one" / "supervised-0"
    assert json.loads((out / "table.json").read_text())["sections"][0]["rows"][0]["runs"] == 1
    stamp = (done / "results.json").stat().st_mtime_ns
    fixed = path.read_text().replace('tasks = ["dept"]', 'tasks = ["depth"]')
    path.write_text(fixed)
    (out / "one" / "broken-0" / "experiment.toml").unlink(missing_ok=True)
    assert command("suite", path, "--out", out, "--json") == 0
    assert (done / "results.json").stat().st_mtime_ns == stamp
    assert json.loads(capsys.readouterr().out)["sections"][0]["rows"][1]["runs"] == 1


def test_a_folder_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert not run.is_locked()
    with run.locked():
        assert run.is_locked()
        with pytest.raises(CheckpointError, match="another process is training in this folder"), run.locked():
            pass
    assert not run.is_locked()


def test_a_job_that_was_stopped_goes_on_in_a_new_one(suite: Suite) -> None:
    """submitit asks for the job's checkpoint when its time is over, and submits what it gets."""
    again = Process(suite.jobs[0], 1).checkpoint()
    assert isinstance(again.function, Process)
    assert again.function.job == suite.jobs[0]


@pytest.mark.skipif(shutil.which("sinfo") is None, reason="no Slurm on this machine")
def test_slurm(tmp_path: Path) -> None:
    """The same jobs as a Slurm array."""
    if subprocess.run(["sinfo", "--noheader"], capture_output=True).returncode != 0:
        pytest.skip("Slurm is installed, and no controller answers")
    text = HEAD.replace("[scenarios.full.plugins.full]", "") + "[experiments.supervised]\n"
    path = write(tmp_path, text)
    out = tmp_path / "runs"
    assert command("suite", path, "--out", out, "--cluster", "slurm", "--parallel", 2) == 0
    assert len(list((tmp_path / "runs").glob("*/supervised-*/results.json"))) == 2
