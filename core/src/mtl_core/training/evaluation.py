"""Metrics of a network on a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import Metric

from mtl_core.tasks.tasks import Tasks
from mtl_core.training.evaluating import evaluating
from mtl_core.training.network import Network


@torch.no_grad()
def evaluate(
    network: Network,
    loader: DataLoader[Any],
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    details: dict[str, float] | None = None,
) -> dict[str, float]:
    """Metrics of every task over the labels that a loader's batches carry.

    :param details: filled with what tables leave out, such as ``task/iou/class``
    :return: ``task/metric`` → value, over the data of all ranks; NaN where no label counts
    """
    where = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64, which sums need
    metrics = nn.ModuleDict({task.name: task.metrics() for task in network.tasks}).to(where)
    with evaluating(network):
        for batch in loader:
            with autocast():
                predictions = network(batch.images.to(device))
            for task in network.tasks:
                prediction = predictions[task.name].float().to(where)
                update(metrics[task.name], prediction, batch.targets[task.name].to(where))
    values = results(network.tasks, metrics)
    if details is not None:
        details |= detailed(network.tasks, metrics)
    return values


def update(metric: nn.Module, prediction: Tensor, target: Tensor) -> None:
    assert isinstance(metric, Metric)
    metric.update(prediction, target)


def results(tasks: Tasks, metrics: nn.ModuleDict) -> dict[str, float]:
    values: dict[str, float] = {}
    for task in tasks:
        values |= {f"{task.name}/{name}": float(value) for name, value in computed(metrics[task.name]).items()}
    return values


def detailed(tasks: Tasks, metrics: nn.ModuleDict) -> dict[str, float]:
    """``task/…`` → value of what tables leave out."""
    values: dict[str, float] = {}
    for task in tasks:
        metric = metrics[task.name]
        assert isinstance(metric, Metric)
        with metric.sync_context():
            values |= {f"{task.name}/{name}": value for name, value in task.details(metric).items()}
    return values


def computed(metric: nn.Module) -> dict[str, Tensor]:
    """A metric's values, NaN where it saw no data: a rank without a batch still takes part in the reduction."""
    assert isinstance(metric, Metric)
    if not metric.update_called:
        metric._update_count = 1
    values: dict[str, Tensor] = metric.compute()
    return values


def metric_names(tasks: Tasks) -> list[str]:
    """``task/metric`` of everything that :func:`evaluate` gives."""
    return [f"{task.name}/{name}" for task in tasks for name in computed(task.metrics())]


def headlines(tasks: Tasks) -> dict[str, bool]:
    """``task/metric`` of the one metric per task that Δ% uses → whether higher is better."""
    return {f"{task.name}/{task.headline}": task.higher_is_better for task in tasks}


def units(tasks: Tasks, metrics: Iterable[str]) -> dict[str, str]:
    """``task/metric`` → its unit, of those that have one."""
    pairs = {name: name.split("/", 1) for name in metrics}
    found = {name: tasks[task].unit(metric) for name, (task, metric) in pairs.items()}
    return {name: unit for name, unit in found.items() if unit}


def directions(tasks: Tasks, metrics: Iterable[str]) -> dict[str, bool]:
    """``task/metric`` → whether it is better when higher."""
    pairs = {name: name.split("/", 1) for name in metrics}
    return {name: tasks[task].better_when_higher(metric) for name, (task, metric) in pairs.items()}
