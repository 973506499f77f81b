"""What `mtl evaluate` writes: the results that tables are made of stay those of `mtl train`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtl_core import Experiment, train
from mtl_core.commands.evaluate import evaluate_run
from mtl_core.run_folder import RunFolder
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_suite.compare import compare

TOYS = {"data": ToyData, "labels": ToyLabels, "network": ToyNetwork}
OTHER = "plugins.data.samples=4"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plugins = {name: kind() for name, kind in TOYS.items()}
    made = Experiment(name="r", plugins=plugins, epochs=1, batch_size=2, validation=0.25, device="cpu")
    return train(made, tmp_path_factory.mktemp("trained")).folder


@pytest.fixture
def run(trained: Path, tmp_path: Path, install: Callable[..., None]) -> RunFolder:
    source = "from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork"
    install("mtl-toys", {name: f"fake_toys:{kind.__name__}" for name, kind in TOYS.items()}, source)
    return RunFolder(shutil.copytree(trained, tmp_path / "run"))


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize(
    ("split", "checkpoint", "overrides"), [("train", "last", ()), ("test", "best", ()), ("test", "last", (OTHER,))]
)
def test_other_evaluations_are_in_files_of_their_own(
    run: RunFolder, split: str, checkpoint: str, overrides: tuple[str, ...]
) -> None:
    before = run.results.read_bytes()
    found = evaluate_run(run, split, checkpoint, overrides)
    assert run.results.read_bytes() == before
    record = read(run.folder / f"results-{split}-{checkpoint}.json")
    assert (record["split"], record["checkpoint"], record["metrics"]) == (split, checkpoint, pytest.approx(found))
    assert record.get("overrides", []) == list(overrides)
    names = {path.name for path in run.pictures.glob("*.png")}
    own = f"-{split}-{checkpoint}"
    written = {f"{kind}{suffix}.png" for kind in ("predictions", "best", "worst") for suffix in ("", own)}
    # four images, in the last case, are too few for a best and a worst
    assert names == (written if OTHER not in overrides else written - {f"best{own}.png", f"worst{own}.png"})
    assert compare([run.folder], [run.folder]).rows[0].delta[0] == 0


@pytest.mark.parametrize("overrides", [(), ("batch_size=4", "workers=0")])
def test_the_evaluation_of_training_is_overwritten(run: RunFolder, overrides: tuple[str, ...]) -> None:
    before = read(run.results)
    assert before["runtime_seconds"] >= 0
    evaluate_run(run, overrides=overrides)
    after = read(run.results)
    assert after.pop("overrides", []) == list(overrides)
    assert after.pop("metrics") == pytest.approx(before.pop("metrics"), rel=1e-4)
    assert after.pop("details") == pytest.approx(before.pop("details"), rel=1e-4)
    assert after == before
    assert not list(run.folder.glob("results-*"))


def test_a_run_that_was_stopped_is_comparable_once_it_is_evaluated(run: RunFolder) -> None:
    run.results.unlink()
    evaluate_run(run)
    assert compare([run.folder], [run.folder]).rows[0].name == "r"


def test_results_hold_the_units_of_their_metrics(run: RunFolder) -> None:
    units = read(run.results)["units"]
    expected = {"segmentation/miou": "%", "depth/abs_err": "m", "depth/rmse": "m", "normals/mean_angle": "°"}
    assert expected.items() <= units.items()
    assert units.keys() <= read(run.results)["metrics"].keys()
    assert "abs_err m ↓" in (run.folder / "report.html").read_text()
