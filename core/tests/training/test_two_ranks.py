"""Two processes: one set of statistics, names that differ between ranks, a resume within an epoch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from mtl_core.commands.evaluate import evaluate_split
from mtl_core.commands.train import train
from mtl_core.data.sample import MultiTaskDataset
from mtl_core.experiment import Experiment
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.run_folder import RunFolder
from mtl_core.step.step import Step
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.toys import Shapes, ToyNormedNetwork
from mtl_core.training.checkpoint import load_checkpoint
from mtl_core.training.epoch import EpochMeans
from mtl_core.training.fabric import make_fabric
from mtl_core.training.session import prepare
from mtl_core.training.trainer import Trainer

pytestmark = pytest.mark.slow


class Bright(Shapes):
    """Images that become brighter from sample to sample: no two batches have the same statistics."""

    def __getitem__(self, index: int) -> Any:
        sample = super().__getitem__(index)
        sample.image = sample.image * (1 + index) / 16
        return sample


@plugin
class Data:
    """Sixteen of them, every label."""

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        return Bright(16, (8, 8), split)

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks) -> Tensor:
        return torch.ones(size, len(tasks), dtype=torch.bool)


@plugin
class Talks:
    """Logs the mean brightness, which differs between ranks."""

    @hookimpl
    def compute_regularizer(self, step: Step) -> None:
        step.log("brightness", step.images.mean())


def experiment(devices: int = 2, **settings: Any) -> Experiment:
    options = {"epochs": 2, "batch_size": 2, "validation": 0.25, "learning_rate": 1e-2} | settings
    return Experiment(name="r", plugins=[Data(), ToyNormedNetwork(), Talks()], device="cpu", devices=devices, **options)


def trainer(folder: Path, **settings: Any) -> Trainer:
    made = experiment(**settings)
    folder.mkdir(exist_ok=True)
    fabric = make_fabric(made)
    fabric.launch()
    return Trainer(prepare(made), fabric, RunFolder(folder))


def statistics(t: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in t.step.named_buffers()}


def names(rank: int) -> dict[str, float]:
    """Rank 0 logs "both" and "a", rank 1 "both" and "b" and once more "a"."""
    means = EpochMeans(torch.device("cpu"), dist.new_group())
    own = {"both": 1.0, "a": 2.0} if rank == 0 else {"b": 5.0, "both": 3.0}
    means.add({name: torch.tensor(value) for name, value in own.items()}, torch.tensor(1.0))
    if rank == 1:
        means.add({"a": torch.tensor(4.0)})
    return means.take()


def stopped_and_resumed(folder: Path) -> None:
    """Three of six batches of the second epoch, a checkpoint, and the rest in another trainer."""
    trainer(folder / "whole").fit()
    first = trainer(folder / "parts")
    first.train_epoch(lambda *_: None)
    first.end_epoch(0.0)
    first.data.order.go(1)
    for batch, _ in zip(first.data.training, range(2), strict=False):
        first.train_batch(batch)
    first.save()
    dist.barrier()
    second = trainer(folder / "parts")
    second.resume()
    second.fit()


def worker(rank: int, port: int, folder: Path) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test",
    }  # fmt: skip
    torch.set_num_threads(1)
    train(experiment(), folder / "run")
    found: dict[str, Any] = {"names": names(rank)}
    for kind in ("running", "reestimated"):
        t = trainer(folder / kind, batch_norm=kind, batch_norm_batches=2)
        t.train_epoch(lambda *_: None)
        t.end_epoch(0.0)
        found[kind] = statistics(t)
        t.writer.wait()
    stopped_and_resumed(folder)
    torch.save(found, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the two processes leave."""
    made: Path = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = [subprocess.Popen([sys.executable, __file__, str(rank), str(port), str(made)]) for rank in range(2)]
    try:
        assert [process.wait(timeout=200) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
    return made


@pytest.fixture(scope="module")
def two(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_names_that_differ_between_ranks_are_averaged_over_those_that_logged_them(two: list[dict[str, Any]]) -> None:
    expected = {"a": 3.0, "b": 5.0, "both": 2.0, "skipped_steps": 1.0}
    assert [found["names"] for found in two] == [expected, expected]


def test_results_are_those_of_the_checkpoint(folder: Path) -> None:
    """A single process finds what two found together; their own running statistics differ by a factor."""
    written = json.loads(RunFolder(folder / "run").results.read_text())["metrics"]
    alone = trainer(folder / "alone", devices=1)
    alone.step.load_state_dict(load_checkpoint(folder / "run" / "last.ckpt")["step"])
    for name, value in evaluate_split(alone.session, alone.fabric, "test").metrics.items():
        assert written[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("kind", ["running", "reestimated"])
def test_ranks_evaluate_with_one_set_of_statistics(folder: Path, two: list[dict[str, Any]], kind: str) -> None:
    saved = load_checkpoint(folder / kind / "last.ckpt")["step"]
    for name, value in two[0][kind].items():
        assert torch.equal(value, two[1][kind][name]), name
        assert torch.equal(value, saved[name]), name


def test_reestimated_statistics_are_those_of_the_batches_of_all_ranks(folder: Path, two: list[dict[str, Any]]) -> None:
    state = load_checkpoint(folder / "reestimated" / "last.ckpt")["step"]
    weights = {k: state[f"network.backbone.0.{k}"] for k in ("weight", "bias")}
    t = trainer(folder / "one", devices=1, batch_size=4)
    t.data.order.go(0)
    images = torch.cat([batch.images for batch, _ in zip(t.data.training, range(2), strict=False)])
    z = torch.nn.functional.conv2d(images, weights["weight"], weights["bias"], padding=1)
    torch.testing.assert_close(two[0]["reestimated"]["network.backbone.1.running_mean"], z.mean((0, 2, 3)))
    torch.testing.assert_close(two[0]["reestimated"]["network.backbone.1.running_var"], z.var((0, 2, 3)))


def test_a_resume_within_an_epoch_has_every_ranks_averages(folder: Path) -> None:
    whole, parts = (RunFolder(folder / name).history() for name in ("whole", "parts"))
    for a, b in zip(whole, parts, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}
    a, b = (load_checkpoint(folder / name / "last.ckpt")["step"] for name in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)


if __name__ == "__main__":
    worker(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
