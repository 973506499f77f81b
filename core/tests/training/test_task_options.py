"""Options of tasks in an experiment: which the network learns, which are judged, which are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mtl_core.commands.evaluate import evaluate_run
from mtl_core.errors import ExperimentError
from mtl_core.experiment import Experiment
from mtl_core.run_folder import RunFolder
from mtl_core.settings.toml_file import dump_experiment, parse_toml
from mtl_core.testing import ToyData, ToyLabels, ToyNetwork, command
from mtl_core.training.checkpoint import load_checkpoint
from mtl_core.training.session import prepare

ACCURACY = "pixel_accuracy"
SEGMENTATION = {"loss": "focal", "class_weights": [1, 2, 3, 4], "loss_scale": 2, "headline": ACCURACY}


def experiment(**settings: Any) -> Experiment:
    options = {"epochs": 1, "batch_size": 4, "validation": 0.25, "device": "cpu"} | settings
    return Experiment(name="r", plugins=[ToyData(), ToyLabels(), ToyNetwork()], **options)


def problems(**options: Any) -> tuple[str, ...]:
    with pytest.raises(ExperimentError) as error:
        prepare(experiment(task_options=options))
    return error.value.problems


def test_the_tasks_of_a_run_have_the_options_of_the_experiment() -> None:
    session = prepare(experiment(task_options={"segmentation": SEGMENTATION, "depth": {"loss": "silog"}}))
    segmentation, depth, normals = session.tasks
    assert (segmentation.objective, segmentation.class_weights) == ("focal", (1.0, 2.0, 3.0, 4.0))
    assert (segmentation.loss_scale, segmentation.main_metric, segmentation.main_is_higher) == (
        2,
        "pixel_accuracy",
        True,
    )
    assert depth.objective == "silog"
    assert normals == prepare(experiment()).tasks["normals"]
    assert session.dataset.tasks == session.tasks or list(session.dataset.tasks) == list(session.tasks)


def test_options_of_tasks_that_are_not_learned_are_no_mistake() -> None:
    chosen = prepare(experiment(tasks=("depth",), task_options={"segmentation": SEGMENTATION}))
    assert chosen.tasks.names == ("depth",)


def test_mistakes_are_reported_together() -> None:
    found = problems(
        segmantation={"loss": "focal"},
        segmentation={"los": "focal", "loss": "berhu", "class_weights": [1.0], "channels": 3},
        depth={"metrics": ["rmse", "rmsle"], "headline": "abs"},
        normals={"loss_scale": -1.0},
    )
    text = "\n".join(found)
    assert 'task_options.segmantation: there is no task of this name; did you mean "segmentation"?' in text
    assert 'task_options.segmentation.los: unknown option; did you mean "loss"?' in text
    assert "task_options.segmentation.channels: is set by the data set (known: loss_scale, metrics, headline" in text
    assert 'task_options.segmentation.loss: expected one of "cross_entropy", "focal", found "berhu"' in text
    assert "task_options.segmentation.class_weights: expected 4 numbers from 0, one for each class" in text
    assert 'task_options.depth.metrics: there is no metric "rmsle"; did you mean "rmse"?' in text
    assert 'task_options.depth.headline: there is no metric "abs"' in text
    assert "task_options.normals.loss_scale: must be > 0" in text
    assert len(found) == 8


def test_the_experiment_file_holds_them() -> None:
    made = experiment(task_options={"segmentation": SEGMENTATION, "depth": {"headline": None}})
    document = parse_toml(dump_experiment(made), "x")
    assert document["task_options"] == {"segmentation": SEGMENTATION, "depth": {"headline": "none"}}
    assert document["use"] == {}
    assert document["drop_unlabelled"] is False


FILE = """
name = "toys"
epochs = 1
batch_size = 4
device = "cpu"
[plugins.data]
[plugins.labels]
[plugins.network]
[task_options.segmentation]
metrics = ["miou"]
headline = "pixel_accuracy"
[task_options.depth]
metrics = ["rmse"]
headline = "rmse"
"""


@pytest.fixture
def file(toys: None, tmp_path: Path) -> Path:
    (tmp_path / "toys.toml").write_text(FILE, "utf-8")
    return tmp_path / "toys.toml"


WEIGHTED = ("--set", "task_options.segmentation.class_weights=1,2,0.5,1")


def test_metrics_that_are_kept_and_the_main_one(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert command("train", file, "--out", folder, "--quiet", "--set", "task_options.depth.loss=l2", *WEIGHTED) == 0
    record = json.loads((folder / "results.json").read_text())
    names = [name for name in record["metrics"] if not name.startswith("normals")]
    assert names == ["segmentation/miou", "segmentation/pixel_accuracy", "depth/rmse"]
    assert record["headline"] == {"segmentation/pixel_accuracy": True, "depth/rmse": False, "normals/mean_angle": False}
    assert parse_toml((folder / "experiment.toml").read_text(), "x")["task_options"]["depth"]["loss"] == "l2"
    assert load_checkpoint(folder / "last.ckpt")["tasks"][0]["class_weights"] == (1.0, 2.0, 0.5, 1.0)
    before = record["metrics"]
    again = evaluate_run(RunFolder(folder))
    assert again == pytest.approx(before, rel=1e-5, nan_ok=True)
    other = evaluate_run(RunFolder(folder), overrides=("task_options.depth.metrics=abs_err,delta1",))
    assert {"depth/abs_err", "depth/delta1", "depth/rmse"} <= other.keys()
    assert "depth/rel_err" not in other


def test_a_loss_scale_scales_the_loss(file: Path, tmp_path: Path) -> None:
    losses = {}
    for scale in ("1", "4"):
        folder, setting = tmp_path / scale, f"task_options.normals.loss_scale={scale}"
        assert command("train", file, "--out", folder, "--quiet", "--set", setting, "--set", "validation=0.0") == 0
        (record,) = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
        losses[scale] = record["train/loss/normals"], record["train/loss/depth"]
    # two steps: in the second the weights differ a little
    assert losses["4"][0] == pytest.approx(4 * losses["1"][0], rel=0.05)
    assert losses["4"][1] == pytest.approx(losses["1"][1], rel=0.05)


def test_a_wrong_depth_of_a_key(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("train", file, "--out", tmp_path / "run", "--set", "task_options.depth=l2") == 2
    assert "expected task_options.TASK.OPTION=VALUE" in capsys.readouterr().err
