"""`mtl reproduce`: checks, cost, runs and the paper's figures; the published files against their suites."""

from __future__ import annotations

import functools
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import SUITE_DEFAULTS

from mtl_core import ExperimentError, parse_experiment
from mtl_core.testing import command
from mtl_suite.cost import Measured, measure, measure_apart, measured_parts, peak_resident, unmeasurable
from mtl_suite.engine import Process, Window, visible_gpus
from mtl_suite.jobs import Job
from mtl_suite.plan import Suite, load_suite
from mtl_suite.published import Published, beside, load_published
from mtl_suite.ready import missing, no_accelerator
from mtl_suite.versus import versus

ROOT = Path(__file__).parents[1]
SUITES = ROOT / "docs" / "examples" / "suites"
PUBLISHED = sorted((SUITES / "published").glob("*.toml"))

SUITE = (
    """
name = "tiny"
title = "A tiny table"
seeds = [0]
reference = "supervised"
metrics = ["segmentation/miou", "depth/abs_err"]
[defaults]
epochs = 1
batch_size = 4
validation = 0.0
tasks = ["segmentation", "depth"]
"""
    + SUITE_DEFAULTS
    + """[scenarios.one]
title = "one label"
plugins.onelabel = {}
[scenarios.full.plugins.full]
[experiments.supervised]
title = "Supervised MTL"
[experiments.slow]
only = ["one"]
epochs = 3
"""
)
FIGURES = """
suite = "tiny"
source = "A paper, Tab. 1"
seeds = 3
columns = ["segmentation/miou", "depth/abs_err", "delta"]
notes = ["its images are larger"]
left_out = ["a row of the paper that is no row here"]
[rows.one]
supervised = [[20.0, 1.5], 0.5, nan]
slow = [22.0, 0.4, 15.0]
"""


def write(folder: Path, suite: str = SUITE, figures: str = FIGURES) -> Path:
    (folder / "published").mkdir()
    (folder / "published" / "of-the-paper.toml").write_text(figures, "utf-8")
    path = folder / "tiny.toml"
    path.write_text(suite, "utf-8")
    return path


def call(*arguments: object) -> int:
    return command("reproduce", *arguments)


@pytest.fixture
def measured_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure in this process, in place of one for each measurement."""
    monkeypatch.setattr(
        "mtl_suite.cost.measure_apart", lambda job, threads, count: measure(job.text, job.title, threads, count)
    )


def results(job: Job, values: dict[str, float]) -> None:
    """Write the folder of a finished run."""
    job.folder.mkdir(parents=True)
    (job.folder / "experiment.toml").write_text(job.text)
    headline = {"segmentation/miou": True, "depth/abs_err": False}
    record = {"name": job.row, "seed": job.seed, "split": "test", "checkpoint": "last", "epoch": job.epochs}
    record |= {"metrics": values, "headline": headline}
    (job.folder / "results.json").write_text(json.dumps(record))


# --- the published files ---


def test_every_table_of_a_paper_has_published_figures() -> None:
    tables = {path.stem for path in SUITES.glob("*tab*.toml")}
    assert tables == {path.stem for path in PUBLISHED} & tables
    assert len(tables) >= 22


@functools.cache
def planned(name: str) -> Suite:
    return load_suite(SUITES / f"{name}.toml", folder=Path("no such folder"), seeds=(0,))


@functools.cache
def published(path: Path) -> tuple[Suite, Published]:
    """A file of figures and its suite, of one seed."""
    plan = planned(tomllib.loads(path.read_text("utf-8"))["suite"])
    return plan, load_published(path, plan)


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_rows_scenarios_and_metrics_are_the_suites(path: Path) -> None:
    plan, found = published(path)
    assert path in beside(plan.source)
    assert found.rows.keys() <= {(job.scenario, job.row) for job in plan.jobs}
    assert all(figures for figures in found.rows.values())
    assert versus(plan, found).pairs


OTHERWISE = {
    "ial-tab1": {"uniform": -4.45, "auto-lambda-mtl": -1.95},
    "ial-tab1-cityscapes": {"atw": -0.02, "auto-lambda": 4.42},
    "ial-tab3": {"gradnorm": -2.65, "dwa": -2.36, "ial": -0.91},
    "ial-tab4": {"uniform": -8.17, "uw": -8.59},
    "ial-tab8": {"uniform": -4.45},
    "ial-tab10": {"uniform": -4.45, "uw-fix": -47.38, "auto-lambda": -1.09, "auto-lambda-fix": -7.85, "ial": 2.43,
                  "ial-fix": -4.32},
    "jtr-tab3": {"mtpsl": 1.261},
    "ial-tab11": {"uniform": -4.45, "speed": -3.05},
}  # fmt: skip
"""Changes in per cent that the papers print, and that are not those of their own figures to two digits."""


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_changes_follow_from_the_figures(path: Path) -> None:
    """Holds the copies of the papers' figures: a wrong digit would change Δ%."""
    (plan, found), other = published(path), {}
    for row, figures in found.rows.items():
        computed = found.recomputed(row, plan)
        if computed is None or "delta" not in figures or path.stem == "jtr-tab14":  # means of three runs' changes
            continue
        factor = 7 / 16 if path.stem == "jtr-tab3" else 1  # the paper divides the sum of seven changes by 16
        if abs(computed * factor - figures["delta"][0]) > 0.011:
            other[row[1]] = figures["delta"][0]
    assert other == OTHERWISE.get(path.stem, {})


MISTAKES = {
    "suite": ('suite = "tiny"', 'suite = "tinny"', 'the figures are for "tinny", and this suite is "tiny"'),
    "scenario": ("[rows.one]", "[rows.ome]", 'rows.ome.slow: "ome" is no scenario of the suite; did you mean "one"?'),
    "row": ("slow =", "slowly =", 'rows.one.slowly: no experiment "slowly" in the suite; did you mean "slow"?'),
    "only": ("[rows.one]", "[rows.full]", 'rows.full.slow: the suite does not run "slow" in "full"'),
    "metric": ('"depth/abs_err"', '"depth/abs_er"', 'columns: no "depth/abs_er" in the suite; did you mean "depth/a'),
    "count": ("0.4, 15.0", "0.4", "rows.one.slow: expected 3 figures (segmentation/miou, depth/abs_err, delta), found"),
    "kind": ("0.4, 15.0", '"0.4", 15.0', "rows.one.slow: depth/abs_err: expected a number, [mean, deviation] or nan"),
    "reference": ("seeds = 3", 'seeds = 3\nreference = "sup"', 'reference: no experiment "sup"'),
    "no rows": ("[rows.one]", "[lines.one]", "rows: expected a table with a list of figures"),
    "setting": ("seeds = 3", "seed = 3", "seed: unknown"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_in_published_figures_are_messages(tmp_path: Path, case: str) -> None:
    old, new, expected = MISTAKES[case]
    plan = load_suite(write(tmp_path, figures=FIGURES.replace(old, new)), folder=tmp_path / "runs")
    with pytest.raises(ExperimentError) as error:
        load_published(tmp_path / "published" / "of-the-paper.toml", plan)
    assert expected in str(error.value)


# --- the whole way ---


@pytest.mark.usefixtures("measured_here")
def test_from_the_refusal_to_the_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused on a CPU; the cost alone trains nothing; then the runs, which a second call leaves alone."""
    one = SUITE.replace('title = "Supervised MTL"', 'title = "Supervised MTL"\nonly = ["one"]')
    suite, runs = write(tmp_path, one), tmp_path / "runs"
    here = (suite, "--out", runs, "--set", "device=cpu", "--steps", 2)
    assert call(*here) == 2
    refused = capsys.readouterr().err
    assert "2 runs of up to 3 epochs" in refused
    assert "--any-device" in refused
    assert "1 problem" in refused
    assert not runs.exists()

    assert call(*here, "--cost", "--json") == 0
    shown = capsys.readouterr()
    cost = json.loads(shown.out)
    assert shown.err.count("measuring") == 2
    assert [(row["scenario"], row["row"], row["runs"], row["left"]) for row in cost["rows"]] == [
        ("one", "supervised", 1, 1), ("one", "slow", 1, 1),
    ]  # fmt: skip
    for row, epochs in zip(cost["rows"], (1, 3), strict=True):
        assert row["steps_per_epoch"] == 2
        assert row["seconds_per_step"] > 0
        assert row["hours"] == pytest.approx(row["seconds_per_step"] * 2 * epochs / 3600)
        assert row["peak_mib"] > 50
    assert cost["hours"] == cost["hours_left"] == pytest.approx(sum(row["hours"] for row in cost["rows"]))
    assert not list(runs.rglob("experiment.toml"))

    assert call(*here, "--any-device", "--parallel", 2) == 0
    shown = capsys.readouterr()
    assert "measuring" not in shown.err  # what was measured is remembered
    assert "A paper, Tab. 1" in shown.out
    times = {path: path.stat().st_mtime_ns for path in runs.rglob("results.json")}
    assert len(times) == 2
    found = json.loads((runs / "published.json").read_text())["tables"][0]
    assert [(v["row"], v["column"]) for v in found["values"]][:3] == [
        ("supervised", "segmentation/miou"), ("supervised", "depth/abs_err"), ("slow", "segmentation/miou"),
    ]  # fmt: skip
    first = found["values"][0]
    own = json.loads((runs / "one" / "supervised-0" / "results.json").read_text())["metrics"]["segmentation/miou"]
    assert first["ours"] == [pytest.approx(own), None]
    assert first["difference"] == pytest.approx(own - 20.0)
    assert (first["seeds"], first["paper"], first["difference_in_spreads"]) == (1, [20.0, 1.5], None)

    assert call(*here) == 0  # nothing is left that a CPU could be refused for
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("results.json")} == times


def filled(tmp_path: Path, seeds: tuple[int, ...]) -> Path:
    """A folder with results of both rows of one scenario."""
    suite = write(tmp_path)
    plan = load_suite(suite, folder=tmp_path / "runs", seeds=seeds)
    for job in plan.jobs:
        miou = 20.0 + (2.0 if job.row == "slow" else 0.0) + job.seed
        results(job, {"segmentation/miou": miou, "depth/abs_err": 0.5})
    return suite


def test_differences_are_in_units_of_our_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seeds 0, 1 and 2 give 22, 23, 24: mean 23, deviation 1, one deviation above the paper's 22."""
    suite = filled(tmp_path, (0, 1, 2))
    arguments = (suite, "--out", tmp_path / "runs", "--table", "--seeds", "0,1,2")
    assert call(*arguments, "--json") == 0
    table = json.loads(capsys.readouterr().out)["tables"][0]
    slow = next(v for v in table["values"] if (v["row"], v["column"]) == ("slow", "segmentation/miou"))
    assert slow["ours"] == pytest.approx([23.0, 1.0])
    assert (slow["seeds"], slow["difference"]) == (3, 1.0)
    assert slow["difference_in_spreads"] == pytest.approx(1.0)
    depth = next(v for v in table["values"] if (v["row"], v["column"]) == ("slow", "depth/abs_err"))
    assert depth["difference_in_spreads"] is None  # all seeds agree
    change = next(v for v in table["values"] if (v["row"], v["column"]) == ("slow", "delta"))
    assert change["paper"] == [15.0, None]
    assert change["ours"][0] == pytest.approx(100 * 2 / 21 / 2)
    assert call(*arguments) == 0
    shown = capsys.readouterr().out
    for part in ("+1.0", "22", "3 runs", "its images are larger", "no row here"):
        assert part in shown


def test_one_seed_is_called_one_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = filled(tmp_path, (0,))
    assert call(suite, "--out", tmp_path / "runs", "--table") == 0
    shown = capsys.readouterr().out
    assert "one seed" in shown
    assert (tmp_path / "runs" / "published.txt").read_text("utf-8").count("one seed") >= 4


def test_a_change_that_the_paper_contradicts_is_not_compared(tmp_path: Path) -> None:
    """(22 − 20)/20 and (0.5 − 0.4)/0.5 are +10 and +20 %, in the mean +15; 25 is not."""
    figures = FIGURES.replace("0.4, 15.0", "0.4, 25.0")
    plan = load_suite(write(tmp_path, figures=figures), folder=tmp_path / "runs")
    found = versus(plan, load_published(tmp_path / "published" / "of-the-paper.toml", plan))
    change = next(pair for pair in found.pairs if (pair.row, pair.column) == ("slow", "delta"))
    assert change.contradicts == pytest.approx(15.0)
    assert change.spreads is None


def test_a_broken_folder_of_figures_stops_before_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write(tmp_path, figures=FIGURES.replace("slow =", "slowly ="))
    assert call(suite, "--out", tmp_path / "runs", "--any-device") == 2
    assert 'no experiment "slowly"' in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("seeds", ["0;1", "x", ""])
def test_seeds_that_are_no_numbers(tmp_path: Path, seeds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(write(tmp_path), "--seeds", seeds) == 2
    assert "expected numbers with commas between them" in capsys.readouterr().err


# --- what is missing ---


def test_everything_that_is_missing_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without data: data set, further data, splits and the device, each once, of 20 runs."""
    table = SUITES / "jtr-tab1.toml"
    moved = [
        f"--set=plugins.{key}={tmp_path}/{name}" for key, name in (("nyuv2.root", "a"), ("depth-extended.root", "b"))
    ]
    assert call(table, "--out", tmp_path / "runs", "--set", "device=cpu", *moved) == 2
    shown = capsys.readouterr().err
    for part in (f"{tmp_path}/a: ", f"{tmp_path}/b: ", "nyuv2-onelabel.pth: no such file", "nyuv2-randomlabels.pth: "):
        assert shown.count(part) == 1, part
    assert "device: this machine has no accelerator" in shown
    assert "5 problems" in shown


def test_a_missing_split_and_missing_weights_where_the_data_are_there(tmp_path: Path) -> None:
    suite = SUITE.replace("plugins.onelabel = {}", f'plugins.split-file = {{ path = "{tmp_path}/split.pth" }}')
    weights = f'[defaults.plugins.smp]\nencoder = "resnet18"\nweights = "{tmp_path}/w"'
    suite = suite.replace("[defaults.plugins.segnet]\nwidth = 4", weights)
    found = missing(load_suite(write(tmp_path, suite), folder=tmp_path / "runs"))
    assert len(found) == 2
    assert f"{tmp_path}/split.pth: no such file; set the path of the split to" in found[0]
    assert f"{tmp_path}/w: no such file; `weights` is the path of" in found[1]


def test_weights_that_a_plugin_opens_in_the_run_alone(tmp_path: Path) -> None:
    """The models of pseudo-tasks would label every image before the first sample can be read."""
    pseudo = f"""[defaults.plugins.pseudo]
of = "scenes"
data = {{ size = [32, 32], train = 8, test = 4 }}
[defaults.plugins.pseudo.sources.imagenet]
model = "torchvision:resnet18"
weights = "{tmp_path}/resnet18.pth"
"""
    suite = SUITE.replace("[defaults.plugins.scenes]\nsize = [32, 32]\ntrain = 8\ntest = 4\n", pseudo)
    found = missing(load_suite(write(tmp_path, suite), folder=tmp_path / "runs"))
    key = "plugins.pseudo.sources.imagenet.weights"
    assert found == [
        f"{tmp_path}/resnet18.pth: no such file or folder; put there what {key} names, or --set {key}=PATH"
    ]


def test_a_gpu_is_asked_for_on_slurm(tmp_path: Path) -> None:
    plan = load_suite(write(tmp_path), folder=tmp_path / "runs")
    plan.set_engine(cluster="slurm")
    assert "--gpus 1" in str(no_accelerator(plan))
    plan.set_engine(gpus=1)
    assert no_accelerator(plan) is None


def test_an_accelerator_is_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = load_suite(write(tmp_path), folder=tmp_path / "runs")
    monkeypatch.setattr("mtl_suite.ready.devices", lambda jobs: ["cuda"])
    assert no_accelerator(plan) is None


# --- cost ---


def test_what_is_measured_of_a_row(tmp_path: Path) -> None:
    rows = """
[experiments.stl]
only = ["one"]
each_task = ["segmentation", "depth"]
[experiments.ial]
only = ["one"]
each_primary = ["segmentation", "depth"]
plugins.ial = { primary = "depth" }
[experiments.must]
only = ["one"]
plugins.must = {}
"""
    plan = load_suite(write(tmp_path, SUITE + rows), folder=tmp_path / "runs")
    jobs = {name: [job for job in plan.jobs if job.row == name] for name in ("stl", "ial", "must")}
    assert [job.part for job in measured_parts(plan, jobs["stl"])] == ["segmentation", "depth"]
    assert [job.part for job in measured_parts(plan, jobs["ial"])] == ["segmentation"]
    assert unmeasurable(jobs["stl"][0]) == ""
    assert unmeasurable(jobs["must"][0]) == "plugin must works before the run begins"


@pytest.mark.usefixtures("measured_here")
def test_runs_that_cannot_be_trained_stop_before_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Eight samples make no batch of 16: found by measuring, for both scenarios, before a run begins."""
    suite = SUITE.replace('only = ["one"]\nepochs = 3', "batch_size = 16")
    arguments = ("--any-device", "--set", "device=cpu", "--steps", 1)
    assert call(write(tmp_path, suite), "--out", tmp_path / "runs", *arguments) == 2
    shown = capsys.readouterr().err
    assert "the steps of 2 runs cannot be trained" in shown
    assert "one slow seed 0: 8 training samples do not fill one batch of 16" in shown
    assert not list((tmp_path / "runs").rglob("experiment.toml"))


def test_a_measurement_has_a_process_of_its_own(tmp_path: Path) -> None:
    """Its peak is its own: what this process holds does not count."""
    held = torch.ones(300 * 2**18)  # 300 MiB
    job = load_suite(write(tmp_path), folder=tmp_path / "runs").jobs[0]
    found = measure_apart(job, 1, 1)
    assert isinstance(found, Measured)
    assert (found.steps, held.numel() * 4 / 2**20) == (2, 300)
    assert found.seconds > 0
    assert 50 < found.peak_mib < peak_resident()


# --- GPUs of local processes ---


def test_local_processes_see_the_gpus_of_their_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit would set CUDA_VISIBLE_DEVICES to nothing: a suite on a machine with a GPU would train on its CPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    assert visible_gpus() == ["3", "5"]
    plan = load_suite(write(tmp_path), folder=tmp_path / "runs")
    window = Window(plan, plan.jobs)
    first, second, third = plan.jobs
    assert [window._share(job, 1) for job in (first, second)] == ["3", "5"]
    window.shares.pop(second)
    assert window._share(third, 1) == "5"  # the one that is free
    seen: list[Any] = []
    monkeypatch.setattr("mtl_core.train", lambda *a, **k: seen.append(os.environ["CUDA_VISIBLE_DEVICES"]))
    assert Process(first, torch.get_num_threads(), "5")() is None
    assert seen == ["5"]


def test_a_cluster_gives_its_gpus_itself(tmp_path: Path) -> None:
    plan = load_suite(write(tmp_path), folder=tmp_path / "runs")
    plan.set_engine(cluster="slurm")
    assert Window(plan, plan.jobs)._share(plan.jobs[0], 1) is None
    assert parse_experiment(plan.jobs[0].text, "job").devices == 1
