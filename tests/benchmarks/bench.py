"""`make bench`: ratios measured in one run, as JSON.

Pairs alternate (a, b, b, a, …), so that a noisy neighbour hits both; a ratio is the median of the pairs' ratios, with
its quartiles. Memory is the peak of a fresh process above its resting size after set-up.
Full-width SegNet, B = 4, 96 × 128, one label per sample, on ``--device`` (auto: CUDA, else the CPU).
``--pairs`` are taken as far as ``--minutes`` allow, shared by the ratios, and at least three; the JSON says how many.
On CUDA, ``python tests/benchmarks/bench.py --device cuda``, times are between CUDA events and memory is what PyTorch's
allocator had given out at most, all in one process, in about a minute; ``--size 288 384 --batch 8`` fills the device.
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

import attrs
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
    "jtr, checkpoint": lambda: [JTR(checkpoint=True)],
    "ial": lambda: [IAL(primary="segmentation")],
    "mtpsl": lambda: [MTPSL()],
    "consistency": lambda: [Consistency()],
    "jtr+ial": lambda: [JTR(), IAL(primary="segmentation")],
}


BY_HAND = "by hand"
SIZE = (96, 128)
BATCH = 4


@attrs.frozen
class Shape:
    """What is measured: SegNet's width, B, and the images' size."""

    width: int
    batch: int = BATCH
    size: tuple[int, int] = SIZE


def trainer(method: str, shape: Shape, device: str) -> Trainer:
    data = Scenes(size=shape.size, train=2 * shape.batch, test=2)
    plugins = [data, OneLabel(), SegNet(width=shape.width), *METHODS[method]()]
    experiment = Experiment(name="bench", plugins=plugins, batch_size=shape.batch, validation=0.0, device=device)
    fabric = make_fabric(experiment)
    fabric.launch()
    return Trainer(prepare(experiment), fabric, RunFolder(Path(tempfile.mkdtemp())))


def batch_for(made: Trainer) -> Batch:
    data = BlankedDataset(made.session.dataset, made.session.labelled)
    batch: Batch = made.fabric.to_device(collate([data[i] for i in range(made.experiment.batch_size)]))
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
        return seconds_between_events(step)
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def seconds_between_events(step: Step) -> float:
    """Of the device, from an idle one to the step's end; where kernels wait for Python, Python's time is in it."""
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begun.record()
    step()
    ended.record()
    torch.cuda.synchronize()
    return begun.elapsed_time(ended) / 1000


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


def peak_memory(method: str, shape: Shape, device: str) -> float:
    """Peak MiB of three steps above the resting size, in a fresh process."""
    command = [sys.executable, __file__, "--memory", method, "--width", str(shape.width), "--batch", str(shape.batch)]
    return last_number([*command, "--size", *map(str, shape.size), "--device", device])


def on_cuda(device: str) -> bool:
    return device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())


def last_number(command: list[str]) -> float:
    """What a process prints last; it returns freed memory at once, so that its size is that of what lives."""
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # read by glibc
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.splitlines()[-1])


def peak_of(made: Trainer) -> float:
    """Peak MiB of three steps above the resting size of this process, with what the optimizer keeps."""
    return peak_of_steps(framework_step(made), made.raw_optimizer, made.fabric.device)


def peak_of_steps(step: Step, optimizer: torch.optim.Optimizer, device: torch.device) -> float:
    """:func:`peak_of` for any step."""
    step()  # what the first step alone needs, such as code that is loaded then, and libraries' workspaces
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        given_out = torch.cuda.memory_allocated()
        _ = [step() for _ in range(3)]
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - given_out) / 2**20 + kept(optimizer)
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


def ratios(made: Mapping[str, Trainer], pairs: int, until: float) -> Mapping[str, object]:
    where = made["uniform"].fabric.device
    steps = {name: framework_step(t) for name, t in made.items() if name not in ("uniform", BY_HAND)}
    uniform = framework_step(made["uniform"])
    compared = {f"{name} step / uniform step": (step, uniform) for name, step in steps.items()}
    compared["framework step / hand-written step"] = uniform, hand_written_step(made[BY_HAND])
    found: dict[str, object] = {}
    for name, (step, reference) in compared.items():
        now = time.perf_counter()
        share = (until - now) / (len(compared) - len(found))
        found[name] = or_failure(lambda a=step, b=reference, end=now + share: paired(a, b, pairs, where, end))
        print(f"bench: {name} {found[name]}", file=sys.stderr, flush=True)
    return found


def or_failure(measure: Callable[[], object]) -> object:
    """What was measured, or why it was not: one failure must not lose what others took minutes to find."""
    try:
        return measure()
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}


def memory(made: Mapping[str, Trainer], shape: Shape, device: str) -> Mapping[str, object]:
    """Peaks over the uniform one: on CUDA in this process, else in fresh ones."""

    def peak(name: str) -> float:
        return peak_of(made[name]) if on_cuda(device) else peak_memory(name, shape, device)

    base = peak("uniform")
    shares = {
        f"{name} memory / uniform memory": or_failure(lambda n=name: round(peak(n) / base, 3))
        for name in METHODS
        if name != "uniform"
    }
    return shares | {"uniform peak MiB": round(base)}


def about(device: str) -> Mapping[str, object]:
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"torch": torch.__version__, "python": platform.python_version(), "threads": torch.get_num_threads(),
            "gpu": cuda, "device": device, "load average": round(os.getloadavg()[0], 1)}  # fmt: skip


def check_device(parser: argparse.ArgumentParser, device: str) -> None:
    """One line in place of a traceback after half a minute of set-up."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {device}: PyTorch {torch.__version__} finds no CUDA device; use --device cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument(
        "--minutes", type=float, help="of the whole, 9 (1 on CUDA); slow machines take fewer pairs, at least three"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--memory", metavar="METHOD", choices=list(METHODS), help="print one peak in MiB and stop")
    options = parser.parse_args()
    check_device(parser, options.device)
    shape = Shape(options.width, options.batch, (options.size[0], options.size[1]))
    if options.memory:
        print(peak_of(trainer(options.memory, shape, options.device)))
        return
    minutes = options.minutes or (1.0 if on_cuda(options.device) else 9.0)
    until = time.perf_counter() + 60 * minutes
    made = {name: trainer(name, shape, options.device) for name in METHODS}
    made[BY_HAND] = trainer("uniform", shape, options.device)
    found = {**about(options.device), **attrs.asdict(shape), **memory(made, shape, options.device),
             **ratios(made, options.pairs, until)}  # fmt: skip
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
