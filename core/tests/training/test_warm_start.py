"""Networks that begin with other weights, parts that are not trained."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtl_core.commands.train import train
from mtl_core.errors import CheckpointError
from mtl_core.experiment import Experiment
from mtl_core.run_folder import RunFolder
from mtl_core.testing.toys import ToyData, ToyLabels, ToyNetwork
from mtl_core.training.checkpoint import load_checkpoint
from mtl_core.training.session import prepare
from mtl_core.training.warm_start import _FILE


def experiment(*plugins: object, **settings: Any) -> Experiment:
    options = {"epochs": 1, "validation": 0.25, "device": "cpu", "batch_size": 2, "learning_rate": 0.05} | settings
    return Experiment(name="t", plugins=[ToyData(), ToyLabels(), ToyNetwork(), *plugins], **options)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return train(experiment(seed=5), tmp_path / "first")


def trained(run: RunFolder) -> dict[str, Tensor]:
    return {n.removeprefix("network."): v for n, v in load_checkpoint(run.checkpoint())["step"].items()}


def test_a_run_gives_its_weights(run: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = RunFolder(tmp_path / "second")
    with caplog.at_level(logging.WARNING, "mtl"):
        network = prepare(experiment(start_from=str(run.folder)), folder).network
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in trained(run).items())
    count = len(network.state_dict())
    assert f"start_from {run.checkpoint()}: {count} of {count} tensors taken" in caplog.text
    report = json.loads((folder.folder / _FILE).read_text())
    assert report["file"] == str(run.checkpoint())
    assert len(report["taken"]) == count
    assert report["other_shape"] == {}


def test_an_average_is_taken_where_there_is_one(tmp_path: Path) -> None:
    run = train(experiment(ema=0.9, seed=5), tmp_path / "first")
    network = prepare(experiment(start_from=str(run.checkpoint("last")))).network
    average = load_checkpoint(run.checkpoint())["ema"]["network"]
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in average.items())


def test_what_does_not_fit_is_reported(run: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = trained(run)
    weights["heads.depth.weight"] = torch.zeros(1, 4, 3, 3)
    del weights["heads.depth.bias"]
    weights["heads.edges.bias"] = torch.zeros(1)
    torch.save({"state_dict": weights}, tmp_path / "w.pth")
    with caplog.at_level(logging.WARNING, "mtl"):
        network = prepare(experiment(start_from=str(tmp_path / "w.pth"))).network
    own = prepare(experiment()).network.state_dict()
    assert torch.equal(network.state_dict()["heads.depth.weight"], own["heads.depth.weight"])
    assert torch.equal(network.state_dict()["backbone.0.weight"], weights["backbone.0.weight"])
    reported = "10 of 12 tensors taken; 1 of another shape (heads.depth.weight); 1 not there (heads.depth.bias)"
    assert f"{reported}; 1 not used (heads.edges.bias)" in caplog.text


@pytest.mark.parametrize("prefix", ["", "module.backbone.", "network.backbone."])
def test_names_of_the_encoder_and_of_modules_around(prefix: str, run: RunFolder, tmp_path: Path) -> None:
    own = {n.removeprefix("backbone."): v for n, v in trained(run).items() if n.startswith("backbone.")}
    torch.save({prefix + name: value for name, value in own.items()}, tmp_path / "w.pt")
    network = prepare(experiment(start_from=str(tmp_path / "w.pt"))).network
    assert all(torch.equal(value, network.backbone.state_dict()[name]) for name, value in own.items())


def test_safetensors(run: RunFolder, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    safetensors.save_file(trained(run), tmp_path / "w.safetensors")
    network = prepare(experiment(start_from=str(tmp_path / "w.safetensors"))).network
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in trained(run).items())


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    torch.save({"other.weight": torch.zeros(2)}, tmp_path / "other.pt")
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("weights")
    (tmp_path / "empty").mkdir()
    messages = {
        "other.pt": "none of its tensors has a name and shape of the network",
        "list.pt": "holds a list, expected a state dict",
        "text.pt": "cannot be read as weights",
        "empty": "not a run folder",
        "none.pt": "no such file",
    }
    for name, message in messages.items():
        with pytest.raises(CheckpointError, match=message):
            prepare(experiment(start_from=str(tmp_path / name)))


def test_a_resume_does_not_need_the_file(run: RunFolder, tmp_path: Path) -> None:
    start = tmp_path / "start.ckpt"
    start.write_bytes(run.checkpoint().read_bytes())
    made = experiment(start_from=str(start), epochs=2)
    train(experiment(start_from=str(start)), tmp_path / "second")
    start.unlink()
    resumed = train(made, tmp_path / "second", resume=True)
    assert [record["epoch"] for record in resumed.history()] == [0, 1]
