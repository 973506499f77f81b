"""`make bench`: ratios measured in one run, as JSON.

Pairs alternate (a, b, b, a, …), so that a noisy neighbour hits both; a ratio is the median of the pairs' ratios, with
its quartiles. Memory is the peak of a fresh process above its resting size after set-up.
Full-width SegNet, B = 4, 96 × 128, one label per sample, on ``--device`` (auto: CUDA, else the CPU).
``--pairs`` are taken as far as ``--minutes`` allow, shared by the ratios, and at least three; the JSON says how many.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.nn import functional as F

from mtl_backbones import SegNet
from mtl_consistency import Consistency
from mtl_core import Batch, Experiment, RunFolder, make_fabric
from mtl_core.testing import BlankedDataset, Trainer, collate, prepare
from mtl_ial import IAL
from mtl_jtr import JTR
from mtl_labels import OneLabel
from mtl_mtpsl import MTPSL
from mtl_scenes import Scenes

Step = Callable[[], object]

METHODS: dict[str, Callable[[], list[object]]] = {
    "uniform": list,
    "jtr": lambda: [JTR()],
    "ial": lambda: [IAL(primary="segmentation")],
    "mtpsl": lambda: [MTPSL()],
    "consistency": lambda: [Consistency()],
    "jtr+ial": lambda: [JTR(), IAL(primary="segmentation")],
}


def trainer(method: str, width: int, device: str) -> Trainer:
    data = Scenes(size=(96, 128), train=8, test=2)
    plugins = [data, OneLabel(), SegNet(width=width), *METHODS[method]()]
    experiment = Experiment(name="bench", plugins=plugins, batch_size=4, validation=0.0, device=device)
    fabric = make_fabric(experiment)
    fabric.launch()
    return Trainer(prepare(experiment), fabric, RunFolder(Path(tempfile.mkdtemp())))


def batch_for(made: Trainer) -> Batch:
    data = BlankedDataset(made.session.dataset, made.session.labelled)
    batch: Batch = made.fabric.to_device(collate([data[i] for i in range(4)]))
    return Batch(batch.images.float() / 255, *batch[1:])


def framework_step(made: Trainer) -> Step:
    batch = batch_for(made)
    return lambda: made.train_batch(batch)


def hand_written_step(made: Trainer) -> Step:
    """The same network, optimizer and tensors in a plain PyTorch loop."""
    network = made.session.network
    batch = batch_for(made)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    m = batch.labelled.float()
    images, targets = batch[:2]

    def step() -> None:
        z = network.backbone(images)
        s, d, n = (network.heads[name](z) for name in ("segmentation", "depth", "normals"))
        valid = [targets["segmentation"] >= 0, targets["depth"][:, 0] > 0, targets["normals"].norm(dim=1) > 0.5]
        maps = [
            F.cross_entropy(s, targets["segmentation"].clamp(min=0), reduction="none"),
            (d - targets["depth"]).abs()[:, 0],
            1 - F.cosine_similarity(n, targets["normals"], dim=1),
        ]
        losses = [
            (x * v).flatten(1).sum(1) / v.flatten(1).sum(1).clamp(min=1) for x, v in zip(maps, valid, strict=True)
        ]
        total = (torch.stack(losses, 1) * m / m.sum(1, keepdim=True)).mean(0).sum()
        total.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds(step: Step, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


LEAST = 3
"""Pairs that are taken however slow they are."""


def paired(a: Step, b: Step, pairs: int, device: torch.device, until: float = math.inf) -> dict[str, object]:
    """Ratios a/b of alternating steps.

    :param until: by ``time.perf_counter``: no pair begins that would end later, after the least number of them
    """
    for warm_up in (a, b, a, b):
        warm_up()
    ratios = []
    times = []
    begun = time.perf_counter()
    for pair in range(pairs):
        now = time.perf_counter()
        if pair >= LEAST and now + (now - begun) / pair > until:
            break
        first, second = (a, b) if pair % 2 == 0 else (b, a)
        one = seconds(first, device)
        two = seconds(second, device)
        x, y = (one, two) if pair % 2 == 0 else (two, one)
        ratios.append(x / y)
        times.append(y)
    q1, median, q3 = statistics.quantiles(ratios, n=4)
    return {"median": round(median, 3), "quartiles": [round(q1, 3), round(q3, 3)], "pairs": len(ratios),
            "reference_seconds": round(statistics.median(times), 4)}  # fmt: skip


def peak_memory(method: str, width: int, device: str) -> float:
    """Peak MiB of three steps above the resting size, in a fresh process."""
    command = [sys.executable, __file__, "--memory", method, "--width", str(width), "--device", device]
    return last_number(command)


def last_number(command: list[str]) -> float:
    """What a process prints last; it returns freed memory at once, so that its size is that of what lives."""
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # read by glibc
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.splitlines()[-1])


def measure_memory(method: str, width: int, device: str) -> float:
    return peak_of(trainer(method, width, device))


def peak_of(made: Trainer) -> float:
    """Peak MiB of three steps above the resting size of this process, with what the optimizer keeps."""
    return peak_of_steps(framework_step(made), made.raw_optimizer, made.fabric.device)


def peak_of_steps(step: Step, optimizer: torch.optim.Optimizer, device: torch.device) -> float:
    """:func:`peak_of` for any step."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        rest = torch.cuda.memory_allocated()
        _ = [step() for _ in range(3)]
        return (torch.cuda.max_memory_allocated() - rest) / 2**20
    step()  # what the first step alone needs, such as code that is loaded then
    rest = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on (Linux)
    _ = [step() for _ in range(3)]
    return resident("VmHWM") - rest + kept(optimizer)


def kept(optimizer: torch.optim.Optimizer) -> float:
    """MiB that the optimizer keeps between steps."""
    states = optimizer.state.values()
    return sum(x.nbytes for state in states for x in state.values() if isinstance(x, torch.Tensor)) / 2**20


def resident(field: str) -> float:
    """Resident memory of this process in MiB: ``VmRSS`` now, ``VmHWM`` at its peak."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) / 2**10


def ratios(width: int, pairs: int, device: str, until: float) -> Mapping[str, object]:
    made = {name: trainer(name, width, device) for name in METHODS}
    where = made["uniform"].fabric.device
    steps = {name: framework_step(t) for name, t in made.items()}
    uniform = steps.pop("uniform")
    compared = {f"{name} step / uniform step": (step, uniform) for name, step in steps.items()}
    by_hand = hand_written_step(trainer("uniform", width, device))
    compared["framework step / hand-written step"] = uniform, by_hand
    found: dict[str, object] = {}
    for name, (step, reference) in compared.items():
        now = time.perf_counter()
        share = (until - now) / (len(compared) - len(found))
        found[name] = paired(step, reference, pairs, where, now + share)
    return found


def memory(width: int, device: str) -> Mapping[str, object]:
    peaks = {name: peak_memory(name, width, device) for name in METHODS}
    base = peaks["uniform"]
    shares = {
        f"{name} memory / uniform memory": round(peak / base, 3) for name, peak in peaks.items() if name != "uniform"
    }
    return shares | {"uniform peak MiB": round(base)}


def about(width: int, device: str) -> Mapping[str, object]:
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"torch": torch.__version__, "python": platform.python_version(), "threads": torch.get_num_threads(),
            "gpu": cuda, "device": device, "width": width, "batch": [4, 3, 96, 128]}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--minutes", type=float, default=9.0, help="of the whole; slow machines take fewer pairs")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--memory", metavar="METHOD", help="print one method's peak in MiB and stop")
    options = parser.parse_args()
    if options.memory:
        print(measure_memory(options.memory, options.width, options.device))
        return
    until = time.perf_counter() + 60 * options.minutes
    found = {**about(options.width, options.device), **memory(options.width, options.device),
             **ratios(options.width, options.pairs, options.device, until)}  # fmt: skip
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
