"""What batch norm's statistics cost an evaluation at batch 4: running averages against re-estimated ones.

``python tests/benchmarks/batch_norm.py [--width 8] [--seeds 0 1 2] [--methods supervised ial jtr-ial]``. Each network
is trained once and evaluated three times after every third epoch: with its running averages, with statistics that are
re-estimated over an epoch's training batches, and normalised by the test batches themselves, which a user could not do.
JSON lines.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from mtl_backbones import SegNet
from mtl_core import Batch, Experiment, RunFolder, make_fabric
from mtl_core.testing import Trainer, prepare
from mtl_core.training.batch_norm import reestimate
from mtl_core.training.evaluation import evaluate
from mtl_core.training.loader import evaluation_loader
from mtl_ial import IAL
from mtl_jtr import JTR
from mtl_labels import OneLabel
from mtl_scenes import Scenes

METHODS = {
    "supervised": list,
    "ial": lambda: [IAL(primary="segmentation", initial_weight=0.5)],
    "jtr-ial": lambda: [
        JTR(c_dist=1.0, train_encoder_on="reconstruction", unpool="upsample"),
        IAL(primary="segmentation", initial_weight=0.5),
    ],
}
SHOWN = ("segmentation/miou", "depth/abs_err", "depth/rmse", "normals/mean_angle")


def trainer(method: str, seed: int, width: int, epochs: int) -> Trainer:
    data = Scenes(size=(64, 96), train=256, test=64)
    experiment = Experiment(
        name=method, plugins=[data, OneLabel(), SegNet(width=width), *METHODS[method]()], seed=seed, epochs=epochs,
        batch_size=4, learning_rate=1e-3, schedule="step", device="cpu",
    )  # fmt: skip
    return Trainer(prepare(experiment), make_fabric(experiment), RunFolder(Path(tempfile.mkdtemp())))


def test_batches(made: Trainer) -> list[Batch]:
    data = made.session.hooks.build_dataset("test")
    every = torch.ones(len(data), len(data.tasks), dtype=torch.bool)
    return list(evaluation_loader(data, every, range(len(data)), made.experiment.batch_size))


def three_ways(made: Trainer, test: list[Batch]) -> dict[str, dict[str, float]]:
    """The same weights, evaluated three times; the run goes on as if nothing had been done."""
    network = made.step.network
    device = made.fabric.device
    before = [buffer.clone() for buffer in network.buffers()]
    found = {"running": evaluate(network, test, device), "batch": evaluate(network, test, device, by_batch=True)}
    # the batches of the epoch that has ended
    reestimate(network, made.validation.training_images(made.position.epoch - 1))
    found["reestimated"] = evaluate(network, test, device)
    for buffer, value in zip(network.buffers(), before, strict=True):
        buffer.copy_(value)
    return {kind: {name: round(one.metrics[name], 4) for name in SHOWN} for kind, one in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--methods", nargs="+", default=["supervised", "ial"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for method in options.methods:
        for seed in options.seeds:
            made = trainer(method, seed, options.width, options.epochs)
            started = time.process_time()
            test = test_batches(made)
            for epoch in range(1, options.epochs + 1):
                made.train_epoch(lambda *_: None)
                made.end_epoch(0.0)
                if epoch % 3 == 0:
                    record = {"method": method, "seed": seed, "epoch": epoch, **three_ways(made, test)}
                    print(json.dumps(record | {"cpu_seconds": round(time.process_time() - started)}), flush=True)


if __name__ == "__main__":
    main()
