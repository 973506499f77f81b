"""How JTR and MTPSL grow with the number of tasks K: time and memory of a step, one label per image and half of them.

``python tests/benchmarks/scaling.py --out docs/pictures/scaling.svg`` prints JSON and draws the curve. K tasks of one
channel each, SegNet of width 16, B = 4, 64 × 96. The steps of one K and scenario alternate, so that a noisy neighbour
hits all; times are medians, and ratios refer to the supervised step of the same K and the same round.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import numpy as np
import torch
from bench import framework_step, last_number, peak_of, seconds
from torch import Tensor

from mtl_backbones import SegNet
from mtl_core import Depth, Experiment, MultiTaskDataset, RunFolder, Sample, Tasks, hookimpl, make_fabric, plugin
from mtl_core.testing import Trainer, prepare
from mtl_jtr import JTR
from mtl_mtpsl import MTPSL
from mtl_report.curves import COLOURS, chart

COUNTS = (2, 3, 5, 7, 10, 14)
SIZE = (64, 96)
METHODS: dict[str, Callable[[], list[object]]] = {
    "supervised": list,
    "jtr": lambda: [JTR()],
    "mtpsl": lambda: [MTPSL()],
}
SCENARIOS = ("one", "half")


class Maps:
    """K maps of one channel for every image."""

    labelled: Tensor | None = None
    names: Sequence[str] | None = None

    def __init__(self, tasks: int) -> None:
        self.tasks = Tasks([Depth(name=f"t{k}") for k in range(tasks)])

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        maps = {task.name: torch.rand(1, *SIZE, generator=generator) + 1 for task in self.tasks}
        return Sample(torch.rand(3, *SIZE, generator=generator), maps)


@plugin
class ManyTasks:
    """Random maps; some of their labels on every image."""

    tasks: int = 3
    labels: int = 1

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        return Maps(self.tasks)

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks) -> Tensor:
        offsets = (torch.arange(len(tasks)) - torch.arange(size)[:, None]) % len(tasks)
        return offsets < self.labels


def trainer(method: str, tasks: int, scenario: str) -> Trainer:
    plugins = [
        ManyTasks(tasks=tasks, labels=1 if scenario == "one" else tasks // 2),
        SegNet(width=16),
        *METHODS[method](),
    ]
    experiment = Experiment(name="scaling", plugins=plugins, batch_size=4, validation=0.0, device="cpu")
    fabric = make_fabric(experiment)
    fabric.launch()
    return Trainer(prepare(experiment), fabric, RunFolder(Path(tempfile.mkdtemp())))


@attrs.define
class Measured:
    """Medians over the rounds."""

    seconds: dict[str, float]
    ratios: dict[str, list[float]]


def measure(tasks: int, scenario: str, rounds: int) -> Measured:
    steps = {name: framework_step(trainer(name, tasks, scenario)) for name in METHODS}
    device = torch.device("cpu")
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds):
        for name in sorted(steps, reverse=number % 2 == 1):
            times[name].append(seconds(steps[name], device))
    ratios = {n: [a / b for a, b in zip(t, times["supervised"], strict=True)] for n, t in times.items()}
    return Measured(
        {name: round(statistics.median(t), 4) for name, t in times.items()},
        {name: [round(q, 2) for q in statistics.quantiles(r, n=4)] for name, r in ratios.items()},
    )


def memory(method: str, tasks: int, scenario: str) -> float:
    """Peak MiB of three steps in a fresh process."""
    command = [sys.executable, __file__, "--memory", method, str(tasks), scenario]
    return last_number(command)


def growth(values: Sequence[float]) -> dict[str, float]:
    """Least-squares polynomial of degree two in K, and how far a straight line is off at K = 14."""
    line = np.polyfit(COUNTS, values, 1)
    curve = np.polyfit(COUNTS, values, 2)
    residual = float(np.abs(np.polyval(line, COUNTS) - values).max() / max(values))
    return {"slope per task": round(float(line[0]), 5), "quadratic coefficient": round(float(curve[0]), 6),
            "largest distance from a line, of the maximum": round(residual, 3)}  # fmt: skip


def standalone(curves: dict[str, list[tuple[float, float]]]) -> str:
    """The chart as a file of its own: with styles, and the legend inside."""
    inner = re.search(r"<svg[^>]*>(.*)</svg>", chart("", curves), re.DOTALL)
    assert inner is not None
    names = [
        f'<text x="70" y="{28 + 14 * row}" fill="{tint}">{name}</text>'
        for row, (name, tint) in enumerate(zip(curves, COLOURS, strict=False))
    ]
    style = (
        "text { font: 11px sans-serif; } .e { text-anchor: end; } .m { text-anchor: middle; } .g { stroke: #8884; }"
        " polyline { fill: none; stroke-width: 1.8; }"
    )
    title = '<text x="210" y="245" class="m">tasks K; seconds per step</text>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 420 252"><style>{style}</style>'
    return f'{head}<rect width="420" height="252" fill="white"/>{inner[1]}{"".join(names)}{title}</svg>\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="write the curves as SVG")
    parser.add_argument("--memory", nargs=3, metavar=("METHOD", "TASKS", "SCENARIO"), help="print one peak in MiB")
    options = parser.parse_args()
    if options.memory:
        method, tasks, scenario = options.memory
        print(peak_of(trainer(method, int(tasks), scenario)))
        return
    found: dict[str, dict[str, object]] = {}
    curves: dict[str, list[tuple[float, float]]] = {}
    for scenario in SCENARIOS:
        rows = {k: measure(k, scenario, options.rounds) for k in COUNTS}
        for name in METHODS:
            own = [rows[k].seconds[name] for k in COUNTS]
            extra = [rows[k].seconds[name] - rows[k].seconds["supervised"] for k in COUNTS]
            curves[f"{name}, {scenario}"] = list(zip(map(float, COUNTS), own, strict=True))
            found[f"{name}, {scenario}"] = {
                "seconds": dict(zip(COUNTS, own, strict=True)),
                "ratio to supervised, quartiles": {k: rows[k].ratios[name] for k in COUNTS},
                "peak MiB": {k: round(memory(name, k, scenario)) for k in COUNTS},
            }
            if name != "supervised":
                found[f"{name}, {scenario}"]["growth of what is added to the supervised step"] = growth(extra)
    print(json.dumps(found, indent=2))
    if options.out:
        options.out.write_text(standalone(curves), "utf-8")


if __name__ == "__main__":
    main()
