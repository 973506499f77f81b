"""How difficult are the rendered rooms? Constants, one label per image and every label, over several seeds.

``python docs/examples/scenes-labels.py [SEEDS [DIFFICULTY]]`` prints what constants reach and trains the demo's network
with equal weights; resumable, a minute a run on one core. SEEDS = 0 prints the constants alone. Constants: the most
frequent class, the median depth and the mean normal of the training labels; the same for each pixel place by itself is
what can be known of an image without looking at it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mtl_core import Experiment, MultiTaskDataset, Segmentation, Task, Tasks, load_experiment, train
from mtl_labels import Full, OneLabel
from mtl_suite.compare import compare, table

HERE = Path(__file__).parent
RUNS = Path("runs/scenes-labels")


def constants(experiment: Experiment, places: bool) -> dict[str, float]:
    """Test metrics of predicting the same for every image.

    :param places: one value for each pixel place; otherwise one for all of them
    """
    hooks = experiment.named["scenes"]
    train_set, test_set = hooks.build_dataset("train"), hooks.build_dataset("test")  # type: ignore[attr-defined]
    tasks: Tasks = train_set.tasks
    found: dict[str, float] = {}
    for task in tasks:
        guess = task.encode(typical(task, stacked(train_set, task.name), places))
        target, metric = stacked(test_set, task.name), task.metrics()
        metric.update(guess.expand(len(target), -1, *target.shape[-2:]), target)
        found |= {f"{task.name}/{name}": float(value) for name, value in metric.compute().items()}
    return found


def typical(task: Task, labels: Tensor, places: bool) -> Tensor:
    """The most frequent class, median or mean of labels (N, …, H, W): one label (1, …, H, W), or (1, …, 1, 1)."""
    if not places:
        labels = labels.movedim((-2, -1), (1, 2)).flatten(0, 2)[..., None, None]
    if isinstance(task, Segmentation):
        return labels.mode(0, keepdim=True).values
    return labels.median(0, keepdim=True).values if task.channels == 1 else labels.mean(0, keepdim=True)


def stacked(dataset: MultiTaskDataset, task: str) -> Tensor:
    return torch.stack([dataset[i].targets[task] for i in range(len(dataset))])


def as_table(columns: Mapping[str, Mapping[str, float]]) -> Table:
    """A row for each metric, so that it fits any terminal."""
    shown = Table("", *columns, box=None)
    for name in next(iter(columns.values())):
        shown.add_row(name, *(f"{column[name]:.4g}" for column in columns.values()))
    return shown


def experiments(base: Experiment) -> dict[str, Experiment]:
    """The demo's experiment with each scenario in place of its own."""
    scenarios: dict[str, object] = {"onelabel": OneLabel(), "full": Full()}
    rest: list[object] = [plugin for name, plugin in base.named.items() if name not in scenarios]
    return {name: attrs.evolve(base, name=name, plugins=[*rest, made]) for name, made in scenarios.items()}


def main(seeds: int, difficulty: str) -> None:
    base = load_experiment(HERE / "demo-supervised.toml", [f"plugins.scenes.difficulty={difficulty}"])
    console = Console()
    kinds = {"constants": False, "constants of each place": True}
    console.print(as_table({title: constants(base, places) for title, places in kinds.items()}))
    folders: dict[str, list[Path]] = {"onelabel": [], "full": []}
    for name, experiment in experiments(base).items():
        for seed in range(seeds):
            out = RUNS / difficulty / f"{name}-{seed}"
            if not (out / "results.json").is_file():
                train(attrs.evolve(experiment, seed=seed), out, resume=True)
            folders[name].append(out)
    if seeds:
        console.print(table(compare(folders["onelabel"], [*folders["onelabel"], *folders["full"]])))


if __name__ == "__main__":
    given = dict(zip(("seeds", "difficulty"), sys.argv[1:], strict=False))
    main(int(given.get("seeds", 3)), given.get("difficulty", "easy"))
