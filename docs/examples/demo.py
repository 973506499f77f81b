"""`make demo`: does a method help its primary task? Two networks, the same budget, three seeds; table and pictures.

``python docs/examples/demo.py [FOLDER] [SEED …]``: other seeds are other runs of the same two experiments.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from pathlib import Path
from statistics import fmean, stdev

import torch
from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mtl_core import RunFolder, load_experiment, train

HERE = Path(__file__).parent
PLAIN, METHOD = "demo-supervised", "demo-ial"
PRIMARY = "segmentation/miou"
ROWS = {
    PRIMARY: ("segmentation mIoU % ↑", True),
    "segmentation/pixel_accuracy": ("pixel accuracy % ↑", True),
    "depth/abs_err": ("depth error m ↓", False),
    "normals/mean_angle": ("normals error ° ↓", False),
}
"""Metric → what the table calls it, and whether higher is better."""

SECTIONS = {PRIMARY: "primary task", "depth/abs_err": "auxiliary tasks"}
GAP, TITLE, COLUMNS = 4, 16, 7
"""How a run's picture is laid out: pixels between columns and above them; image, and two columns for each task."""

Values = dict[str, list[float]]
"""Metric → its value for each seed."""
console = Console()


def run_one(name: str, seed: int, out: Path) -> None:
    """Train in this process; one thread each, so that a run gives the same numbers whatever runs beside it."""
    torch.set_num_threads(1)
    shutil.rmtree(out, ignore_errors=True)
    train(load_experiment(HERE / f"{name}.toml", [f"seed={seed}"]), out)


def end_with_parent() -> None:
    """End this process when the demo ends, however that ends: no training goes on unseen."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def train_all(folders: dict[tuple[str, int], Path]) -> None:
    """Every run in a process of its own, as many at a time as there are cores."""
    context = multiprocessing.get_context("spawn")
    epochs = sum(load_experiment(HERE / f"{name}.toml").epochs for name, _ in folders)
    processes = ProcessPoolExecutor(min(cores(), len(folders)), context, end_with_parent)
    with processes as pool, Progress(console=console) as bar:
        jobs = [pool.submit(run_one, *key, folder) for key, folder in folders.items()]
        task = bar.add_task(f"{len(jobs)} runs, epochs", total=epochs)
        for _ in until_done(jobs):
            bar.update(task, completed=sum(epochs_of(RunFolder(folder)) for folder in folders.values()))
        for job in jobs:
            job.result()


def until_done(jobs: Sequence[Future[None]]) -> Iterator[None]:
    """Twice a second until all are finished or one has failed."""
    while not all(job.done() for job in jobs) and not any(job.done() and job.exception() for job in jobs):
        wait(jobs, timeout=0.5)
        yield


def epochs_of(run: RunFolder) -> int:
    return run.metrics.read_text().count('"event": "epoch"') if run.metrics.is_file() else 0


def values(runs: Sequence[Path]) -> Values:
    found = [json.loads(RunFolder(folder).results.read_text())["metrics"] for folder in runs]
    return {metric: [result[metric] for result in found] for metric in ROWS}


def shown(numbers: Sequence[float]) -> str:
    return f"{fmean(numbers):.3g}" + (f" ± {stdev(numbers):.2g}" if len(numbers) > 1 else "")


def gains(plain: Sequence[float], method: Sequence[float], higher: bool) -> list[float]:
    """Per cent of the plain value, seed by seed; positive where the method is better."""
    pairs = zip(plain, method, strict=True)
    return [100 * (b - a) / a * (1 if higher else -1) for a, b in pairs]


def table(plain: Values, method: Values) -> Table:
    """The primary task comes first: it is what the method is for."""
    made = Table("", "equal weights", "IAL", "gain %, by seed", box=None)
    for metric, (title, higher) in ROWS.items():
        if metric in SECTIONS:
            made.add_row(f"[bold]{SECTIONS[metric]}")
        changes = gains(plain[metric], method[metric], higher)
        made.add_row(title, shown(plain[metric]), shown(method[metric]), "  ".join(f"{c:+z.1f}" for c in changes))
    return made


def conclusion(plain: Values, method: Values) -> str:
    """One sentence, from the numbers: a gain is one that every seed has and that is larger than its spread."""
    raised = [b - a for a, b in zip(plain[PRIMARY], method[PRIMARY], strict=True)]
    won = sum(points > 0 for points in raised)
    what = f"segmentation from {fmean(plain[PRIMARY]):.1f} to {fmean(method[PRIMARY]):.1f} % mIoU"
    if won < len(raised) or (len(raised) > 1 and fmean(raised) < stdev(raised)):
        return f"IAL took {what}, and was better in {won} of {len(raised)} seeds: these runs show no gain."
    others = {"depth": "depth/abs_err", "normals": "normals/mean_angle"}
    changes = [f"{t} {fmean(gains(plain[m], method[m], False)):+z.0f} %" for t, m in others.items()]
    return f"IAL raised its primary task, {what}, in {won} of {won} seeds; the others: {', '.join(changes)}."


def side_by_side(plain: RunFolder, method: RunFolder, out: Path) -> None:
    """The runs' pictures of the same test images as one: image, then label and both predictions of two tasks."""
    sheets = [Image.open(run.pictures / "predictions.png") for run in (plain, method)]
    stride = (sheets[0].width + GAP) // COLUMNS
    panels = [(0, 0, "image")]
    for task, place in (("segmentation", 1), ("normals", 5)):
        panels += [(0, place + 1, f"{task}: label"), (0, place, "equal weights"), (1, place, "IAL")]
    made = Image.new("RGB", (len(panels) * stride - GAP, sheets[0].height), "white")
    for x, (which, place, title) in enumerate(panels):
        left = place * stride
        made.paste(sheets[which].crop((left, 0, left + stride - GAP, made.height)), (x * stride, 0))
        made.paste("white", (x * stride, 0, (x + 1) * stride, TITLE))
        ImageDraw.Draw(made).text((x * stride + 2, 2), title, fill="black")
    made.save(out)


def main(runs: Path, seeds: Sequence[int]) -> None:
    began = time.monotonic()
    console.print(f"Rendered rooms with classes, depth and normals; two methods, {len(seeds)} seeds, the same budget.")
    folders = {(name, seed): runs / f"{name}-{seed}" for seed in seeds for name in (PLAIN, METHOD)}
    train_all(folders)
    plain, method = (values([folders[name, seed] for seed in seeds]) for name in (PLAIN, METHOD))
    console.print(table(plain, method), conclusion(plain, method), sep="\n")
    picture = runs / "demo.png"
    side_by_side(RunFolder(folders[PLAIN, seeds[0]]), RunFolder(folders[METHOD, seeds[0]]), picture)
    console.print(f"pictures {picture}, reports {runs}/*/report.html; {time.monotonic() - began:.0f} s", soft_wrap=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "runs/demo"), [int(seed) for seed in sys.argv[2:]] or [0, 1, 2])
