"""Metrics of a network on a data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext

import attrs
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from mtl_core.data.sample import Batch
from mtl_core.tasks.metrics import Summed
from mtl_core.tasks.task import Task
from mtl_core.tasks.tasks import Tasks
from mtl_core.training.batch_norm import batch_norms, batch_statistics
from mtl_core.training.evaluating import evaluating
from mtl_core.training.network import Network


@attrs.frozen
class Evaluated:
    """What a network gave on some data, of all ranks together.

    :param metrics: ``task/metric`` → value; NaN where no label counts, or where a prediction is NaN that counts
    :param losses: task → mean loss over the samples that carry it; NaN where there is none
    :param broken: task → images whose prediction is NaN where their label counts, of the tasks that have any
    """

    metrics: dict[str, float]
    losses: dict[str, float]
    broken: dict[str, int]
    details: dict[str, float] = attrs.field(factory=dict)
    """What tables leave out, such as ``task/iou/class``."""
    images: dict[int, dict[str, float]] = attrs.field(factory=dict)
    """Position in the data set → task → loss of its label, of the images that this rank saw."""

    @property
    def problems(self) -> list[str]:
        """What is wrong with the metrics, one sentence for each task."""
        wrong = [f"{task}: the predictions of {count} labelled image(s) are NaN" for task, count in self.broken.items()]
        endless = [name for name, value in self.metrics.items() if math.isinf(value)]
        return [*wrong, *(f"{name} is infinite" for name in endless)]


class _Totals(Summed):
    """A task's losses, its labelled samples, and those of them whose prediction is NaN where the label counts."""

    loss: Tensor
    count: Tensor
    broken: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        for name in ("loss", "count", "broken"):
            self.add_sum(name)
        # no state of the metric, which would be gathered: each rank keeps the losses of its own images
        self.image_losses: list[Tensor] = []

    def update(self, prediction: Tensor, target: Tensor, labelled: Tensor) -> None:
        """A batch's predictions and labels, and which samples carry one: bool (B,)."""
        losses = self.task.scaled_loss(prediction, target)
        self.image_losses.append(torch.where(labelled, losses, torch.full_like(losses, torch.nan)))
        self.loss += torch.where(labelled, losses, torch.zeros_like(losses)).sum()
        self.count += labelled.sum()
        broken = prediction.isnan() & self.task.valid(target)
        self.broken += (broken.flatten(1).any(1) & labelled).sum()

    def compute(self) -> dict[str, Tensor]:
        return {"loss": self.loss / self.count, "broken": self.broken}


@torch.no_grad()
def evaluate(
    network: Network,
    loader: Iterable[Batch],
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    by_batch: bool = False,
) -> Evaluated:
    """Metrics and losses of every task over the labels that a loader's batches carry.

    :param by_batch: let the layers of batch norm that learn normalise by the batch, as in training
    """
    layers = batch_norms(network) if by_batch else []
    positions = list[Tensor]()
    # MPS has no float64, which sums need
    metrics_on = torch.device("cpu") if device.type == "mps" else device
    metrics = nn.ModuleDict({task.name: task.metrics() for task in network.tasks}).to(metrics_on)
    totals = nn.ModuleDict({task.name: _Totals(task) for task in network.tasks}).to(metrics_on)
    with evaluating(network), batch_statistics(layers):
        for batch in loader:
            positions.append(batch.index)
            with autocast():
                predictions = network(batch.images.to(device, non_blocking=True))
            for k, task in enumerate(network.tasks):
                prediction = predictions[task.name].float().to(metrics_on)
                target = batch.targets[task.name].to(metrics_on, non_blocking=True)
                _update(metrics[task.name], prediction, target)
                _update(totals[task.name], prediction, target, batch.labelled[:, k].to(metrics_on))
    found = _results(network.tasks, metrics, totals)
    found.details.update(_detailed(network.tasks, metrics))
    found.images.update(_by_image(positions, {name: _image_losses(totals[name]) for name in network.tasks.names}))
    return found


def _image_losses(totals: nn.Module) -> list[Tensor]:
    assert isinstance(totals, _Totals)
    return totals.image_losses


def _by_image(positions: list[Tensor], losses: Mapping[str, list[Tensor]]) -> dict[int, dict[str, float]]:
    """Position → task → loss, of the labels that are there."""
    if not positions:
        return {}
    found: dict[int, dict[str, float]] = {position: {} for position in torch.cat(positions).tolist()}
    for name, parts in losses.items():
        # the dict keeps the order in which the batches came, which is that of the losses
        for position, loss in zip(found, torch.cat(parts).tolist(), strict=True):
            if math.isfinite(loss):
                found[position][name] = loss
    return found


def _update(metric: nn.Module, *values: Tensor) -> None:
    assert isinstance(metric, Metric)
    metric.update(*values)


def _results(tasks: Tasks, metrics: nn.ModuleDict, totals: nn.ModuleDict) -> Evaluated:
    found = Evaluated({}, {}, {})
    for task in tasks:
        total = {name: float(value) for name, value in _computed(totals[task.name]).items()}
        found.losses[task.name] = total["loss"]
        kept = {name: value for name, value in _computed(metrics[task.name]).items() if task.keeps(name)}
        values = {f"{task.name}/{name}": float(value) for name, value in kept.items()}
        if total["broken"]:
            # argmax and histograms make a class or an angle of a NaN, and metrics that look like others
            found.broken[task.name] = int(total["broken"])
            values = dict.fromkeys(values, math.nan)
        found.metrics.update(values)
    return found


def _detailed(tasks: Tasks, metrics: nn.ModuleDict) -> dict[str, float]:
    """``task/…`` → value of what tables leave out."""
    values: dict[str, float] = {}
    for task in tasks:
        metric = metrics[task.name]
        assert isinstance(metric, Metric)
        # states of all ranks together, and of this rank alone again afterwards
        with metric.sync_context():
            values |= {f"{task.name}/{name}": value for name, value in task.details(metric).items()}
    return values


def _computed(metric: nn.Module) -> dict[str, Tensor]:
    """A metric's values, NaN where it saw no data: a rank without a batch must join the reduction too."""
    assert isinstance(metric, Metric)
    if not metric.update_called:
        # torchmetrics warns of a compute without an update; here it is a rank without a batch
        metric._update_count = 1
    values: dict[str, Tensor] = metric.compute()
    return values


def metric_names(tasks: Tasks) -> list[str]:
    """``task/metric`` of everything that :func:`evaluate` gives."""
    return [f"{task.name}/{name}" for task in tasks for name in _computed(task.metrics()) if task.keeps(name)]


def headlines(tasks: Tasks) -> dict[str, bool]:
    """``task/metric`` of the one metric per task that Δ% uses → whether higher is better."""
    return {f"{task.name}/{task.main_metric}": task.main_is_higher for task in tasks}


def units(tasks: Tasks, metrics: Iterable[str]) -> dict[str, str]:
    """``task/metric`` → its unit, of those that have one."""
    pairs = {name: name.split("/", 1) for name in metrics}
    found = {name: tasks[task].unit(metric) for name, (task, metric) in pairs.items()}
    return {name: unit for name, unit in found.items() if unit}


def directions(tasks: Tasks, metrics: Iterable[str]) -> dict[str, bool]:
    """``task/metric`` → whether it is better when higher."""
    pairs = {name: name.split("/", 1) for name in metrics}
    return {name: tasks[task].better_when_higher(metric) for name, (task, metric) in pairs.items()}
