"""Metrics of a network on a data set."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import Metric

from mtl_core.data import Batch
from mtl_core.tasks import Task, Tasks
from mtl_core.training import Network


@torch.no_grad()
def evaluate(
    network: Network,
    loader: DataLoader[Batch],
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, float]:
    """Metrics of every task over the labels that a loader's batches carry.

    :return: ``task/metric`` → value, over the data of all ranks; NaN where no label counts
    """
    metrics = nn.ModuleDict({task.name: task.metrics() for task in network.tasks}).to(device)
    training = network.training
    network.eval()
    for batch in loader:
        with autocast():
            predictions = network(batch.images.to(device))
        for task in network.tasks:
            update(metrics[task.name], task, predictions[task.name].float(), batch.targets[task.name].to(device))
    network.train(training)
    return results(network.tasks, metrics)


def update(metric: nn.Module, task: Task, prediction: Tensor, target: Tensor) -> None:
    assert isinstance(metric, Metric)
    metric.update(prediction, target)


def results(tasks: Tasks, metrics: nn.ModuleDict) -> dict[str, float]:
    values: dict[str, float] = {}
    for task in tasks:
        metric = metrics[task.name]
        assert isinstance(metric, Metric)
        metric.update_called or setattr(metric, "_update_count", 1)
        values |= {f"{task.name}/{name}": float(value) for name, value in metric.compute().items()}
    return values


def headlines(tasks: Tasks) -> dict[str, bool]:
    """``task/metric`` of the one metric per task that Δ% uses → whether higher is better."""
    return {f"{task.name}/{task.headline}": task.higher_is_better for task in tasks}
