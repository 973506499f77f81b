"""Which images are the best and the worst, and what results and versions say of network, device and code."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from mtl_core import Experiment, FinishedRun, hookimpl, load_experiment, plugin, train
from mtl_core.commands.finished_run import _by_loss
from mtl_core.commands.train import _commit_of, _versions
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork

SEEN: list[dict[str, Any]] = []


@plugin
class Sees:
    """Keeps the extremes of the finished run."""

    @hookimpl
    def after_run(self, run: FinishedRun) -> None:
        SEEN.append(run.extremes(2))


def experiment(samples: int = 8) -> Experiment:
    plugins = [ToyData(samples=samples), ToyLabels(), ToyNetwork(), Sees()]
    return Experiment(name="r", plugins=plugins, epochs=1, batch_size=2, validation=0.0, device="cpu")


def test_losses_count_in_the_mean_of_their_task() -> None:
    # task a's losses are 100 times b's; image 2 has b alone
    images = {0: {"a": 100.0, "b": 3.0}, 1: {"a": 300.0, "b": 1.0}, 2: {"b": 2.0}, 3: {}}
    # a: 100/200, 300/200; b: 3/2, 1/2, 2/2: means 1, 1, 1
    assert _by_loss(images) == [0, 1, 2]
    images[1]["a"] = 500.0
    assert _by_loss(images) == [0, 2, 1]


def test_the_extremes_are_those_of_the_losses(tmp_path: Path) -> None:
    SEEN.clear()
    made = experiment()
    train(made, tmp_path)
    (found,) = SEEN
    assert set(found) == {"best", "worst"}
    network = _losses(tmp_path)
    assert [int(name) for name in found["best"].names] == network[:2]
    assert [int(name) for name in found["worst"].names] == network[:-3:-1]
    expected = ToyData().build_dataset("test")[network[0]].image
    assert torch.equal(found["best"].batch.images[0], expected)


def _losses(folder: Path) -> list[int]:
    """Positions by loss, computed one by one."""
    from mtl_core.training.checkpoint import load_checkpoint
    from mtl_core.training.session import prepare

    session = prepare(experiment())
    session.network.load_state_dict(
        {
            name.removeprefix("network."): value
            for name, value in load_checkpoint(folder / "last.ckpt")["step"].items()
            if name.startswith("network.")
        }
    )
    session.network.eval()
    data = ToyData().build_dataset("test")
    rows = []
    for i in range(len(data)):
        with torch.no_grad():
            predictions = session.network(data[i].image[None])
        rows.append([float(t.loss(predictions[t.name], data[i].targets[t.name][None])) for t in data.tasks])
    losses = torch.tensor(rows)
    return (losses / losses.mean(0)).mean(1).argsort().tolist()


def test_few_images_have_no_extremes(tmp_path: Path) -> None:
    SEEN.clear()
    train(experiment(samples=4), tmp_path)
    assert SEEN == [{}]


def test_results_name_parameters_and_device(tmp_path: Path) -> None:
    run = train(experiment(), tmp_path)
    record = json.loads(run.results.read_text())
    count = ToyNetwork().channels
    assert record["parameters"]["head depth"] == count * 9 + 1
    assert set(record["parameters"]) == {"encoder", "head segmentation", "head depth", "head normals"}
    assert record["device"].startswith("cpu (")


def test_versions_have_python_and_the_commit_of_the_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "e.toml"
    file.write_text('name = "r"\n[plugins]\n')
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert _commit_of(tmp_path) == ""
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    made = load_experiment(file)
    head = subprocess.run(["git", "-C", tmp_path, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert _versions(made)["commit"] == head.stdout.strip()
    file.write_text('name = "other"\n[plugins]\n')
    assert _versions(made)["commit"] == head.stdout.strip() + " with changes"
    assert _versions(made)["python"].count(".") == 2
