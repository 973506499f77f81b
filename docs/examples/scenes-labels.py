"""How hard are the rendered rooms? Constants, one label per image and every label, over several seeds.

``python docs/examples/scenes-labels.py [SEEDS]`` trains the supervised network of the demo; resumable, a minute or two
a run on one core. Constants: the most frequent class, the median depth and the mean normal of the training labels.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from rich.console import Console

from mtl_core import Experiment, Segmentation, Tasks, load_experiment, train
from mtl_core.compare import compare, table
from mtl_core.data import MultiTaskDataset
from mtl_labels import Full, OneLabel

HERE = Path(__file__).parent
RUNS = Path("runs/scenes-labels")


def constants(experiment: Experiment) -> dict[str, float]:
    """Test metrics of predicting the same everywhere."""
    hooks = experiment.named["scenes"]
    train_set, test_set = hooks.build_dataset("train"), hooks.build_dataset("test")  # type: ignore[attr-defined]
    tasks: Tasks = train_set.tasks
    found: dict[str, float] = {}
    for task in tasks:
        labels, metric = stacked(train_set, task.name), task.metrics()
        if isinstance(task, Segmentation):
            best = torch.zeros(task.channels).scatter_(0, labels.flatten().mode().values[None], 1.0)
        else:
            flat = labels.transpose(0, 1).flatten(1)
            best = flat.median(1).values if task.channels == 1 else flat.mean(1)
        target = stacked(test_set, task.name)
        metric.update(best[None, :, None, None].expand(len(target), -1, *target.shape[-2:]), target)
        found |= {f"{task.name}/{name}": float(value) for name, value in metric.compute().items()}
    return found


def stacked(dataset: MultiTaskDataset, task: str) -> torch.Tensor:
    return torch.stack([dataset[i].targets[task] for i in range(len(dataset))])


def main(seeds: int = 3) -> None:
    base = load_experiment(HERE / "demo-supervised.toml")
    console = Console()
    console.print("constants", {name: round(value, 3) for name, value in constants(base).items()})
    folders: dict[str, list[Path]] = {"onelabel": [], "full": []}
    for seed in range(seeds):
        for name, scenario in (("onelabel", OneLabel()), ("full", Full())):
            plugins = {k: scenario if k == "onelabel" else p for k, p in base.named.items()}
            out = RUNS / f"{name}-{seed}"
            if not (out / "results.json").is_file():
                settings = {k: getattr(base, k) for k in ("epochs", "batch_size", "learning_rate", "schedule")}
                made = Experiment(name=name, plugins=list(plugins.values()), seed=seed, **settings)
                train(made, out, resume=True)
            folders[name].append(out)
    console.print(table(compare(folders["onelabel"], [*folders["onelabel"], *folders["full"]])))


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:2]))
