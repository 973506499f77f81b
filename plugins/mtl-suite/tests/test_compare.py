"""Δ% by hand-made numbers; runs that cannot be compared."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mtl_core import CheckpointError, MtlError
from mtl_core.testing import main
from mtl_suite.compare import Comparison, compare, table, with_its_seeds
from mtl_suite.jobs import Job
from mtl_suite.labels import read_labels

HEADLINE = {"segmentation/miou": True, "depth/abs_err": False}


class Folder:
    """Writes the run folders of a test."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, name: str, miou: float | None, depth: float | None, seed: int = 0, **changed: Any) -> Path:
        folder = self.root / f"run{len(list(self.root.iterdir()))}"
        folder.mkdir()
        (folder / "experiment.toml").write_text(f'name = "{name}"\n')
        metrics = {"segmentation/miou": miou, "segmentation/pixel_accuracy": 50.0, "depth/abs_err": depth}
        record = {"name": name, "seed": seed, "split": "test", "checkpoint": "last", "epoch": 1}
        record |= {"metrics": metrics, "headline": HEADLINE, **changed}
        (folder / "results.json").write_text(json.dumps(record))
        return folder


@pytest.fixture
def run(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def printed(comparison: Comparison, styled: bool = False) -> str:
    console = Console(width=200, force_terminal=styled, color_system="standard" if styled else None)
    with console.capture() as capture:
        console.print(table(comparison))
    return capture.get()


def test_delta_by_hand(run: Folder) -> None:
    """mIoU 20 → 25 is +25 %; an error of 0.8 → 0.6 is −25 %, which counts as +25 %; 0.8 → 1.0 counts as −25 %."""
    found = compare([run("plain", 20.0, 0.8)], [run("both", 25.0, 0.6), run("mixed", 22.0, 1.0)]).to_json()
    assert found["reference"] == "plain"
    assert [r["name"] for r in found["runs"]] == ["both", "mixed"]
    assert [r["delta_percent"] for r in found["runs"]] == pytest.approx([25.0, (10 - 25) / 2])
    assert found["runs"][1]["per_task"] == pytest.approx({"segmentation": 10.0, "depth": -25.0})
    assert found["runs"][0]["metrics"]["segmentation/miou"] == [25.0, None]
    assert found["runs"][0]["delta_percent_sd"] is None


def test_another_metric_of_a_task_for_delta(run: Folder) -> None:
    """RMSE in place of aErr, as in the IAL paper; a task's first counts."""
    rmse = {"segmentation/miou": 10.0, "depth/abs_err": 1.0, "depth/rmse": 2.0}
    plain = run("plain", 0, 0, metrics=rmse)
    better = run("better", 0, 0, metrics=rmse | {"depth/rmse": 1.5})
    found = compare([plain], [better], ["depth/rmse", "depth/abs_err"])
    assert found.headline == {"segmentation/miou": True, "depth/rmse": False}
    assert found.rows[0].per_task["depth"][0] == pytest.approx(25)
    assert "rmse" in printed(found)
    assert compare([plain], [better]).rows[0].per_task["depth"][0] == 0
    with pytest.raises(CheckpointError, match=r"no value of depth/delta1; it has depth/abs_err, depth/rmse, segm"):
        compare([plain], [better], ["depth/delta1"])


def test_a_run_against_itself_is_zero(run: Folder) -> None:
    folder = run("plain", 20.0, 0.8)
    assert compare([folder], [folder]).to_json()["runs"][0]["delta_percent"] == 0


def test_seeds_of_one_name_become_mean_and_deviation(run: Folder) -> None:
    reference = [run("plain", 18.0, 1.0, seed=0), run("plain", 22.0, 1.0, seed=1)]
    runs = [run("jtr", 22.0, 1.0, seed=0), run("other", 20.0, 1.0), run("jtr", 26.0, 0.8, seed=1)]
    jtr, other = compare(reference, runs).to_json()["runs"]
    assert (jtr["name"], jtr["seeds"]) == ("jtr", [0, 1])
    assert jtr["metrics"]["segmentation/miou"] == pytest.approx([24.0, math.sqrt(8)])
    # against the mean of the reference's seeds, 20: (10 + 0)/2 and (30 + 20)/2
    assert jtr["delta_percent"] == pytest.approx(15.0)
    assert jtr["delta_percent_sd"] == pytest.approx(math.sqrt(200))
    assert other["delta_percent"] == pytest.approx(0.0)


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_value_that_is_none_is_null_and_never_nan(run: Folder, seeds: int) -> None:
    comparison = compare([run("plain", 20.0, 1.0)], [run("jtr", None, 0.8, seed=s) for s in range(seeds)])
    found = json.loads(json.dumps(comparison.to_json(), allow_nan=False))["runs"][0]
    assert found["delta_percent"] is None
    assert found["per_task"] == pytest.approx({"segmentation": None, "depth": 20.0})
    assert "nan" not in printed(comparison)


def test_a_reference_of_zero_has_no_relative_change(run: Folder) -> None:
    found = compare([run("plain", 0.0, 1.0)], [run("jtr", 5.0, 1.0)]).to_json()["runs"][0]
    assert found["per_task"] == {"segmentation": None, "depth": 0.0}


def test_the_table_has_every_metric_and_the_best_in_bold(run: Folder) -> None:
    folders = [run("plain", 20.0, 0.5), run("jtr[/x]", 25.0, 0.75), run("failed", None, None)]
    comparison = compare(folders[:1], folders)
    text = printed(comparison)
    for part in (
        "segmentation/miou ↑",
        "segmentation/pixel_accuracy",
        "depth/abs_err ↓",
        "jtr[/x]",
        "+25.00",
        "-12.50",
    ):
        assert part in text
    bold = [line for line in printed(comparison, styled=True).splitlines() if "miou" in line or "abs_err" in line]
    assert ["\x1b[1m25" in bold[0], "\x1b[1m20" in bold[0]] == [True, False]
    assert ["\x1b[1m0.5" in bold[1], "\x1b[1m0.75" in bold[1]] == [True, False]


def test_levels_are_told_where_the_rows_differ(run: Folder) -> None:
    """Gradients at the features and at the parameters are two protocols."""
    plain = run("plain", 20.0, 0.5)
    one = run("mgda", 25.0, 0.75, level="features")
    assert "gradients" not in printed(compare([plain], [plain, one]))
    comparison = compare([plain], [plain, one, run("mgda-parameters", 24.0, 0.7, level="parameters")])
    text = printed(comparison)
    assert "mgda (gradients at the features)" in text
    assert "mgda-parameters (gradients at the parameters)" in text
    assert "plain (gradients" not in text
    assert [r["levels"] for r in comparison.to_json()["runs"]] == [[], ["features"], ["parameters"]]


def test_a_metric_that_only_one_run_has(run: Folder) -> None:
    richer = {"segmentation/miou": 25.0, "segmentation/new": 7.0, "depth/abs_err": 1.0}
    folders = [run("plain", 20.0, 1.0), run("jtr", 0, 0, metrics=richer), run("jtr", 22.0, 1.0, seed=1)]
    for order in (folders, folders[::-1]):
        comparison = compare(folders[:1], order)
        assert "segmentation/new" in printed(comparison)
        jtr = next(r for r in comparison.to_json()["runs"] if r["name"] == "jtr")
        assert jtr["metrics"]["segmentation/new"] == [None, None]


def refused(reference: Path, run: Path) -> str:
    with pytest.raises(MtlError) as caught:
        compare([reference], [run])
    return str(caught.value)


def test_numbers_that_cannot_be_used_are_reported(run: Folder, caplog: pytest.LogCaptureFixture) -> None:
    good = run("a", 50.0, 1.0)
    bad = run("b", 50.0, 1.0, problems=["depth: NaN"])
    compare([good], [bad])
    assert [record.getMessage() for record in caplog.records] == [
        f"{bad}: the numbers of this run cannot be used: depth: NaN"
    ]


def test_a_run_that_is_not_finished(run: Folder) -> None:
    reference = run("plain", 20.0, 1.0)
    folder = run("jtr", 20.0, 1.0)
    (folder / "results.json").unlink()
    message = refused(reference, folder)
    assert all(part in message for part in (str(folder), "results.json", f"mtl evaluate {folder}"))


def test_a_folder_that_is_no_run(run: Folder, tmp_path: Path) -> None:
    message = refused(run("plain", 20.0, 1.0), tmp_path / "nothing")
    assert str(tmp_path / "nothing") in message
    assert "not a run folder" in message


@pytest.mark.parametrize("headline", [{"segmentation/miou": True}, {"segmentation/miou": True, "depth/abs_err": True}])
def test_other_tasks(run: Folder, headline: dict[str, bool]) -> None:
    reference = run("plain", 20.0, 1.0)
    folder = run("jtr", 20.0, 1.0, headline=headline)
    message = refused(reference, folder)
    assert str(folder) in message
    assert "compare runs with the same tasks" in message


def test_another_split(run: Folder) -> None:
    reference = run("plain", 20.0, 1.0)
    folder = run("jtr", 20.0, 1.0, split="validation")
    message = refused(reference, folder)
    assert "validation split, checkpoint last" in message
    assert f"; run `mtl evaluate {folder}`, which" in message
    assert f"; run `mtl evaluate {folder}`, which" in refused(folder, reference)


def test_another_checkpoint(run: Folder) -> None:
    reference = run("plain", 20.0, 1.0)
    folder = run("jtr", 20.0, 1.0, checkpoint="best")
    message = refused(reference, folder)
    assert "test split, checkpoint best, the reference" in message
    assert f"; run `mtl evaluate {folder}`, which" in message


@pytest.mark.parametrize(
    ("metric", "guess"),
    [("dept/rmse", '; did you mean "depth/rmse"?'), ("miou", '; did you mean "segmentation/miou"?'), ("a/b", " (they")],
)
def test_a_metric_of_no_task(run: Folder, metric: str, guess: str) -> None:
    folder = run("plain", 0, 0, metrics={"segmentation/miou": 1.0, "depth/abs_err": 1.0, "depth/rmse": 2.0})
    with pytest.raises(MtlError) as caught:
        compare([folder], [folder], [metric])
    assert f'metric "{metric}": expected TASK/METRIC of the runs{guess}' in str(caught.value)


SETTINGS = """
name = "t"
seed = 0
device = "cpu"
learning_rate = 0.0005
[plugins.data]
root = "/a"
[plugins.labels]
path = "/a/one.pth"
[use]
"""


def with_settings(folder: Path, **changes: str) -> Path:
    """A run's folder with :data:`SETTINGS`, in which texts are replaced."""
    text = SETTINGS
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "experiment.toml").write_text(text)
    return folder


CHANGES = {"0.0005": "0.01", "one.pth": "half.pth", "[plugins.data]": "[plugins.more]\n[plugins.data]"}
EXPECTED = ("learning_rate was 0.0005, now 0.01", "plugins.labels.path was one.pth, now half.pth",
        "plugins was data, labels, now more, data, labels")  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), list(zip(CHANGES.items(), EXPECTED, strict=True)))
def test_runs_of_one_name_and_other_settings_are_not_seeds(run: Folder, change: tuple[str, str], expected: str) -> None:
    first = with_settings(run("t", 20.0, 1.0))
    second = with_settings(run("t", 20.0, 1.0, seed=1), **dict([change]))
    message = refused(first, second)
    assert f'{second}: has the name "t" of {first}, but {expected}; give it a name of its own' in message
    with pytest.raises(CheckpointError, match="give it a name of its own"):
        compare([run("plain", 20.0, 1.0)], [first, second])


def test_seeds_may_come_from_other_machines(run: Folder) -> None:
    first = with_settings(run("t", 20.0, 1.0))
    changes = {"seed = 0": "seed = 1", '"cpu"': '"cuda"', "/a": "/b", "[use]": "newer = true\n[use]"}
    second = with_settings(run("t", 20.0, 1.0, seed=1), **changes)
    assert compare([run("plain", 20.0, 1.0)], [first, second]).rows[0].seeds == (0, 1)


def test_parts_of_a_set_differ_in_their_task(run: Folder) -> None:
    parts = [
        with_settings(
            run("t", 20.0, 1.0, seed=seed, counts_for=[task]), **{"seed = 0": f'tasks = ["{task}"]\nseed = {seed}'}
        )
        for seed in range(2)
        for task in ("segmentation", "depth")
    ]
    assert compare([run("plain", 20.0, 1.0)], parts).rows[0].seeds == (0, 1)
    with_settings(parts[-1], **{"0.0005": "0.01"})
    with pytest.raises(CheckpointError, match=r"learning_rate was 0\.0005, now 0\.01"):
        compare([run("plain", 20.0, 1.0)], parts)


def heads(comparison: Comparison) -> list[str]:
    return [str(column.header) for column in table(comparison).columns]


def test_the_reference_is_the_first_column_once(run: Folder) -> None:
    plain = run("plain", 20.0, 0.8)
    jtr = run("jtr", 25.0, 0.6)
    for runs in ([jtr], [jtr, plain], [plain, jtr]):
        assert heads(compare([plain], runs)) == ["metric", "plain", "jtr"]
    found = compare([plain], [jtr]).to_json()
    assert found["reference_metrics"]["segmentation/miou"] == [20.0, None]
    assert [row["name"] for row in found["runs"]] == ["jtr"]
    line = next(text for text in printed(compare([plain], [jtr])).splitlines() if "miou" in text)
    assert line.index("20") < line.index("25")


def test_the_references_seeds_are_one_column(run: Folder) -> None:
    seeds = [run("plain", 20.0 + seed, 0.8, seed=seed) for seed in range(2)]
    runs = [seeds[1], run("jtr", 25.0, 0.6)]
    assert heads(compare(with_its_seeds(seeds[0], runs), runs)) == ["metric", "plain (2 seeds)", "jtr"]


def test_units_stand_beside_the_metrics(run: Folder) -> None:
    plain = run("plain", 20.0, 0.8, units={"segmentation/miou": "%", "depth/abs_err": "m"})
    text = printed(compare([plain], [run("older", 25.0, 0.6)]))
    assert "segmentation/miou % ↑" in text
    assert "depth/abs_err m ↓" in text
    assert "segmentation/pixel_accuracy │" in text


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"name": "a", "seed": 0, "split": "test", "metrics": {}, "headline": null}',
        '{"name": "a", "seed": 0, "split": "test", "metrics": {"depth/abs_err": "x"}, "headline": {}}',
        '{"name": "a", "seed": 0, "split": "test", "metrics": {}, "headline": {"depth/abs_err": false}}',
    ],
)
def test_damaged_results(run: Folder, content: str) -> None:
    reference = run("plain", 20.0, 1.0)
    folder = run("jtr", 20.0, 1.0)
    (folder / "results.json").write_text(content)
    message = refused(reference, folder)
    assert all(part in message for part in (str(folder / "results.json"), f"mtl evaluate {folder}"))


@pytest.mark.parametrize("module", ["compare", "commands", "tables", "plan", "plot", "outputs"])
def test_no_torch_is_imported(module: str) -> None:
    code = f"import sys, mtl_suite.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_references_other_seeds_are_found_among_the_runs(tmp_path: Path) -> None:
    folders = [finished(tmp_path / f"r{seed}", "base", seed, depth) for seed, depth in ((0, 1.0), (1, 3.0))]
    other = finished(tmp_path / "o", "other", 0, 1.0)
    assert with_its_seeds(folders[0], [*folders, other]) == folders
    found = compare(with_its_seeds(folders[0], [*folders, other]), [*folders, other])
    assert found.rows[1].per_task["depth"][0] == pytest.approx(50.0)


def test_two_runs_of_one_name_and_seed_are_not_two_seeds(tmp_path: Path) -> None:
    one, two = (finished(tmp_path / name, "same", 0, 1.0) for name in ("a", "b"))
    with pytest.raises(CheckpointError, match=r'has the name "same" and the seed 0 of .*--label .*=NAME'):
        compare([one], [one, two])


def finished(folder: Path, name: str, seed: int, depth: float) -> Path:
    folder.mkdir()
    (folder / "experiment.toml").write_text("")
    metrics = {"depth/abs_err": depth}
    headline = {"depth/abs_err": False}
    record = {
        "name": name,
        "seed": seed,
        "split": "test",
        "checkpoint": "last",
        "metrics": metrics,
        "headline": headline,
    }
    (folder / "results.json").write_text(json.dumps(record))
    return folder


def test_runs_of_one_name_are_told_apart_by_labels(run: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    plain, first, second = run("plain", 20.0, 1.0), run("jtr", 22.0, 0.9), run("jtr", 24.0, 0.8, seed=1)
    again = run("jtr", 26.0, 0.7)
    with pytest.raises(CheckpointError, match=f"need names of their own: --label {again}=NAME"):
        compare([plain], [first, second, again])
    arguments = ["compare", plain, first, second, again, "--label", f"{again}=JTR, long", "--json"]
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [(row["name"], row["seeds"]) for row in rows] == [("jtr", [0, 1]), ("JTR, long", [0])]


def test_labels_join_runs_and_name_the_reference(run: Folder) -> None:
    first, second, other = run("a", 20.0, 1.0), run("b", 22.0, 0.9, seed=1), run("a", 24.0, 0.8)
    labels = read_labels([f"{first}=base", f"{second}=base"], [first, second, other])
    for folder, name in ((first, "x"), (second, "x")):
        (folder / "experiment.toml").write_text(f'name = "{name}"\n')
    found = compare(with_its_seeds(first, [second, other], labels), [second, other], (), labels)
    assert (found.reference, found.base.seeds) == ("base", (0, 1))
    assert [row.name for row in found.rows] == ["base", "a"]


def test_a_label_of_a_set_of_runs(run: Folder, tmp_path: Path) -> None:
    plain, parts = run("plain", 20.0, 1.0), tmp_path / "set"
    parts.mkdir()
    for task, folder in (("segmentation", run("s", 21.0, 0.9)), ("depth", run("s", 22.0, 0.8))):
        record = json.loads((folder / "results.json").read_text()) | {"counts_for": [task]}
        (folder / "results.json").write_text(json.dumps(record))
        folder.rename(parts / task)
    (row,) = compare([plain], [parts], (), read_labels([f"{parts}=single"], [parts])).rows
    assert row.name == "single"


@pytest.mark.parametrize("label", ["{0}", "{0}=", "elsewhere=x", "{0}s=x"])
def test_labels_that_are_none(label: str, run: Folder) -> None:
    plain = run("plain", 20.0, 1.0)
    with pytest.raises(MtlError, match=r"--label .*: expected "):
        read_labels([label.format(plain)], [plain])


def test_a_folders_name_may_hold_an_equals_sign(run: Folder, tmp_path: Path) -> None:
    folder = run("plain", 20.0, 1.0).rename(tmp_path / "lr=1")
    assert read_labels([f"{folder}=a=b"], [folder]) == {folder.resolve(): "a=b"}


@pytest.mark.parametrize(("line", "done"), [({"stopped": "no better epoch in the last 2"}, True), ({}, False)])
def test_a_run_that_ended_early_is_done(line: dict[str, str], done: bool, run: Folder) -> None:
    folder = run("plain", 20.0, 1.0)
    (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 0, "step": 4, **line}) + "\n")
    job = Job("plain", "", 0, "", folder, "", epochs=9)
    assert job.done == done
    (folder / "results.json").unlink()
    assert not job.done
