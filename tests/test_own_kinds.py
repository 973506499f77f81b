"""Kinds of tasks that only a plugin knows train, are scored, drawn, exported and compared, alone and with methods."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from source_files import import_file

from mtl_core import Experiment, Tasks, metric_names, train
from mtl_core.testing import (
    DatasetContract,
    RegularizerContract,
    ToyLabels,
    ToyNetwork,
    TransformContract,
    main,
    make_batch,
    make_step,
)
from mtl_core.training.epoch import BestEpoch
from mtl_jtr import JTR
from mtl_jtr.stacks import stacks
from mtl_mtpsl import MTPSL
from mtl_must.confidence import confident
from mtl_randaugment import Geometry

own: Any = import_file(Path(__file__).with_name("own_kinds.py"))
TASKS: Tasks = own.TASKS
SOURCE = """
from mtl_core.testing import ToyLabels, ToyNetwork
from mtl_jtr import JTR
from mtl_mtpsl import MTPSL
from own_kinds import OwnData
"""
PLAIN: dict[str, Any] = {"data": own.OwnData(), "labels": ToyLabels(), "network": ToyNetwork()}
METHODS: dict[str, dict[str, Any]] = {"plain": {}, "jtr": {"jtr": JTR(width=4)}, "mtpsl": {"mtpsl": MTPSL(width=4)}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    runs = {}
    for name, added in METHODS.items():
        made = Experiment(
            name=name, plugins=PLAIN | added, epochs=8, batch_size=2, validation=0.25, learning_rate=0.03, device="cpu"
        )
        runs[name] = train(made, tmp_path_factory.mktemp(name)).folder
    return runs


@pytest.fixture
def runs(trained: dict[str, Path], tmp_path: Path, install: Callable[..., None]) -> dict[str, Path]:
    kinds = {"data": "OwnData", "labels": "ToyLabels", "network": "ToyNetwork", "jtr": "JTR", "mtpsl": "MTPSL"}
    install("own", {name: f"fake_own:{kind}" for name, kind in kinds.items()}, SOURCE)
    return {name: Path(shutil.copytree(folder, tmp_path / name)) for name, folder in trained.items()}


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("method", list(METHODS))
def test_they_train_and_are_scored(trained: dict[str, Path], method: str) -> None:
    found = json.loads((trained[method] / "results.json").read_text())
    assert found["headline"] == {"points/distance": False, "depth/off": False}
    assert found["directions"] == {"points/distance": False, "points/pck": True, "depth/off": False, "depth/hit": True}
    assert found["units"] == {"points/distance": "px", "points/pck": "%", "depth/off": "m", "depth/hit": "%"}
    assert all(np.isfinite(value) for value in found["metrics"].values())
    epochs = [json.loads(line) for line in (trained[method] / "metrics.jsonl").read_text().splitlines()]
    assert epochs[-1]["val/depth/off"] < epochs[0]["val/depth/off"]


def test_the_best_epoch_is_the_one_with_the_smallest_error() -> None:
    for on in (None, "depth/off"):
        best = BestEpoch(TASKS, Experiment(name="x", plugins=PLAIN, validation=0.25, best_on=on))
        records = [{f"val/{name}": value for name in metric_names(TASKS)} for value in (2.0, 1.0, 3.0)]
        assert [best.better(record) for record in records] == [True, True, False]


def test_they_are_drawn_and_exported(runs: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    for run in runs.values():
        assert (run / "pictures" / "predictions.png").is_file()
        assert (run / "report.html").is_file()
    assert (runs["jtr"] / "pictures" / "jtr.png").is_file()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "a.png")
    printed(capsys, "predict", runs["jtr"], tmp_path / "a.png", "--out", tmp_path / "p", "--json")
    assert np.load(tmp_path / "p" / "a_points.npy").shape == (2, 32, 32)
    assert np.load(tmp_path / "p" / "a_depth.npy").shape == (1, 32, 32)


def test_they_are_compared_in_their_own_direction(runs: dict[str, Path], capsys: Any) -> None:
    path = runs["mtpsl"] / "results.json"
    record = json.loads(path.read_text())
    plain = json.loads((runs["plain"] / "results.json").read_text())["metrics"]
    record["metrics"] = {name: value / 2 for name, value in plain.items()}
    path.write_text(json.dumps(record))
    (row,) = json.loads(printed(capsys, "compare", runs["plain"], runs["mtpsl"], "--json"))["runs"]
    assert row["delta_percent"] == pytest.approx(50)
    shown = printed(capsys, "compare", runs["plain"], runs["mtpsl"])
    assert "depth/off m ↓" in shown
    assert "points/distance px ↓" in shown


def test_a_run_is_evaluated_from_its_checkpoint(runs: dict[str, Path], capsys: Any) -> None:
    before = json.loads((runs["jtr"] / "results.json").read_text())["metrics"]
    printed(capsys, "evaluate", runs["jtr"])
    after = json.loads((runs["jtr"] / "results.json").read_text())["metrics"]
    assert after == pytest.approx(before, rel=1e-4)


def test_label_space_is_what_enters_the_stacks() -> None:
    step = make_step(TASKS, make_batch(TASKS, torch.tensor([[True, False], [False, True]])))
    guess, known = stacks(step, TASKS, {"points": 1.0, "depth": 1.0})
    assert guess.shape == known.shape == (2, 3, 32, 48)
    valid = step.valid("depth")[1, 0]
    assert torch.equal(known[1, 2][valid], step.targets["depth"][1, 0][valid])
    assert torch.equal(known[0, 2], guess[0, 2])


def test_a_teacher_is_sure_of_them_by_its_mirror_image() -> None:
    depth = TASKS["depth"]
    prediction = torch.randn(2, 6, 4, 4)
    assert confident(depth, prediction, None, 0.9, None).all()


class OwnTasks:
    """The contracts' tasks are a plugin's own."""

    image_size = (32, 32)
    width = 2

    @property
    def tasks(self) -> Tasks:
        return TASKS


class TestData(DatasetContract):
    @pytest.fixture
    def plugin(self) -> Any:
        return own.OwnData()


class TestJTR(OwnTasks, RegularizerContract):
    @pytest.fixture
    def plugin(self) -> JTR:
        return JTR()


class TestReleasedJTR(OwnTasks, RegularizerContract):
    @pytest.fixture
    def plugin(self) -> JTR:
        return JTR(variant="released")


class TestMTPSL(OwnTasks, RegularizerContract):
    @pytest.fixture
    def plugin(self) -> MTPSL:
        return MTPSL()


class TestGeometry(OwnTasks, TransformContract):
    @pytest.fixture
    def plugin(self) -> Geometry:
        return Geometry(rotation=20.0)
