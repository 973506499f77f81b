"""What twenty domains cost: a step of 20 tasks over a step of 1, the same images, one label for each.

``python tests/benchmarks/domains.py`` prints JSON. VGG-16 with linear heads, 32 × 32, random images, as in
Multi-CIFAR-100. Steps of the two alternate; a ratio is the median of the pairs' ratios, with its quartiles. On a CPU
times are the process's own, which no neighbour adds to. Operators are what torch is asked to do in one step, forwards
and backwards: on a GPU, where a small one costs as much as its launch, their number counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from bench import Step
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mtl_backbones import VGG16
from mtl_core import (
    Batch,
    Classification,
    Experiment,
    MultiTaskDataset,
    RunFolder,
    Sample,
    Tasks,
    hookimpl,
    make_fabric,
    plugin,
)
from mtl_core.testing import BlankedDataset, Trainer, collate, prepare
from mtl_ial import IAL
from mtl_labels import Full

METHODS: dict[str, Any] = {"sum of losses": list, "ial": lambda: [IAL(primary="d0")]}


class Images:
    """Random images, of which each has the label of one domain."""

    names: Sequence[str] | None = None

    def __init__(self, domains: int, size: int) -> None:
        self.tasks = Tasks([Classification(name=f"d{k}", channels=5) for k in range(domains)])
        self.size = size
        self.labelled: Tensor | None = torch.arange(size)[:, None] % domains == torch.arange(domains)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:
        image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(index))
        labels = torch.full((len(self.tasks),), -1)
        labels[index % len(self.tasks)] = index % 5
        return Sample(image, dict(zip(self.tasks.names, labels.unbind(), strict=True)))


@plugin
class ManyDomains:
    """Random images of several domains."""

    domains: int = 20
    images: int = 40

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        return Images(self.domains, self.images)


class Counted(TorchDispatchMode):
    """Counts the operators that torch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def trainer(domains: int, batch: int, method: str, pool: bool, device: str) -> Trainer:
    plugins = [ManyDomains(domains=domains, images=batch), Full(), VGG16(pool=pool), *METHODS[method]()]
    experiment = Experiment(
        name="domains", plugins=plugins, batch_size=batch, normalize="task", validation=0.0, device=device
    )
    fabric = make_fabric(experiment)
    fabric.launch()
    return Trainer(prepare(experiment), fabric, RunFolder(Path(tempfile.mkdtemp())))


def step_of(made: Trainer) -> Step:
    data = BlankedDataset(made.session.dataset, made.session.labelled)
    batch: Batch = made.fabric.to_device(collate([data[index] for index in range(len(data))]))
    return lambda: made.train_batch(batch)


def forward_of(made: Trainer) -> Step:
    """The network alone: what the heads themselves cost."""
    data = made.session.dataset
    images = made.fabric.to_device(torch.stack([data[index].image for index in range(len(data))]))

    def step() -> None:
        with torch.no_grad():
            made.session.network(images)

    return step


def seconds(step: Step, device: torch.device) -> float:
    cuda = device.type == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    if cuda:
        torch.cuda.synchronize()
    started = clock()
    step()
    if cuda:
        torch.cuda.synchronize()
    return clock() - started


def paired(a: Step, b: Step, pairs: int, device: torch.device) -> dict[str, object]:
    """Ratios a/b of alternating steps, and the time of b."""
    for warm_up in (a, b):
        warm_up()
    ratios = []
    times = []
    for pair in range(pairs):
        first, second = (a, b) if pair % 2 == 0 else (b, a)
        one = seconds(first, device)
        two = seconds(second, device)
        x, y = (one, two) if pair % 2 == 0 else (two, one)
        ratios.append(x / y)
        times.append(y)
    q1, median, q3 = statistics.quantiles(ratios, n=4)
    found: dict[str, object] = {"median": round(median, 3), "quartiles": [round(q1, 3), round(q3, 3)], "pairs": pairs}
    return found | {"reference_seconds": round(statistics.median(times), 4)}


def operators(step: Step) -> int:
    with Counted() as counted:
        step()
    return counted.count


def compared(batch: int, method: str, pool: bool, pairs: int, device: str) -> dict[str, object]:
    many, one = (trainer(domains, batch, method, pool, device) for domains in (20, 1))
    where = many.fabric.device
    found = {
        "step": paired(step_of(many), step_of(one), pairs, where),
        "network without gradients": paired(forward_of(many), forward_of(one), pairs, where),
        "operators": {20: operators(step_of(many)), 1: operators(step_of(one))},
    }
    heads, all_of_it = (sum(p.numel() for p in m.parameters()) for m in (many.session.network.heads, many.step))
    return found | {"heads' share of the parameters": round(heads / all_of_it, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--batch", type=int, default=40)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    found: dict[str, object] = {"torch": torch.__version__, "threads": torch.get_num_threads(), "batch": options.batch}
    for method in METHODS:
        for pool in (True, False):
            name = f"{method}, {'z is the mean over the image' if pool else 'z is the last map'}: 20 domains / 1"
            found[name] = compared(options.batch, method, pool, options.pairs, options.device)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
