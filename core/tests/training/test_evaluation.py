"""Metrics and losses: predictions that are NaN, losses per task, loaders with workers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mtl_core.data.sample import Batch
from mtl_core.tasks.classification import Classification
from mtl_core.tasks.edges import BinaryEdges
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.toys import TOY_TASKS, Shapes
from mtl_core.training.evaluation import evaluate
from mtl_core.training.loader import evaluation_loader
from mtl_core.training.network import Network

CPU = torch.device("cpu")


class Constant(nn.Module):
    """Predicts the same everywhere, NaN for images that are darker than ``dark``."""

    def __init__(self, channels: int, dark: float, dense: bool = True) -> None:
        super().__init__()
        self.channels = channels
        self.dark = dark
        self.dense = dense

    def forward(self, z: Tensor) -> Tensor:
        shape = (len(z), self.channels, *(z.shape[-2:] if self.dense else ()))
        bad = (z.mean((1, 2, 3)) < self.dark).reshape(-1, *[1] * (len(shape) - 1))
        return torch.where(bad, math.nan, torch.ones(shape))


def network(tasks: Tasks, dark: float = -1.0) -> Network:
    heads = {task.name: Constant(task.channels, dark, task.dense) for task in tasks}
    return Network(nn.Identity(), nn.ModuleDict(heads), tasks)


def batches(labelled: Tensor) -> list[Batch]:
    return list(evaluation_loader(Shapes(6, (8, 8), "test"), labelled, range(6), 4))


def test_losses_are_means_over_the_labelled_samples() -> None:
    labelled = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0]], dtype=torch.bool)
    found = evaluate(network(TOY_TASKS), batches(labelled), CPU)
    (every,) = evaluation_loader(Shapes(6, (8, 8), "test"), torch.ones_like(labelled), range(6), 6)
    for k, task in enumerate(TOY_TASKS.names[:2]):
        prediction = torch.ones(6, TOY_TASKS[task].channels, 8, 8)
        losses = TOY_TASKS[task].loss(prediction, every.targets[task])
        assert found.losses[task] == pytest.approx(float(losses[labelled[:, k]].mean()))
    assert math.isnan(found.losses["normals"])
    assert found.broken == {}
    assert found.problems == []


class OtherKinds(Shapes):
    """Edges and a class per image."""

    def __init__(self) -> None:
        super().__init__(6, (8, 8), "test")
        self.tasks = Tasks([BinaryEdges(name="edges"), Classification(name="class", channels=3)])

    def __getitem__(self, index: int):
        sample = super().__getitem__(index)
        sample.targets = {"edges": (sample.image[:1] > 0.5).float(), "class": torch.tensor(index % 3)}
        return sample


@pytest.mark.parametrize("data", [Shapes(6, (8, 8), "test"), OtherKinds()])
def test_a_nan_in_a_prediction_is_no_class_angle_or_edge(data: Shapes) -> None:
    """One dark image of six: argmax, histogram and threshold would make a metric of it that looks like others."""
    brightness = sorted(float(data[i].image.mean()) for i in range(6))
    every = torch.ones(6, len(data.tasks), dtype=torch.bool)
    dark = (brightness[0] + brightness[1]) / 2
    found = evaluate(network(data.tasks, dark), evaluation_loader(data, every, range(6), 4), CPU)
    assert found.broken == dict.fromkeys(data.tasks.names, 1)
    assert all(math.isnan(value) for value in found.metrics.values())
    assert found.problems[0] == f"{data.tasks.names[0]}: the predictions of 1 labelled image(s) are NaN"


def test_a_nan_without_a_label_does_not_count() -> None:
    found = evaluate(network(TOY_TASKS, dark=2.0), batches(torch.zeros(6, 3, dtype=torch.bool)), CPU)
    assert found.broken == {}


def test_a_metric_that_is_infinite_is_a_problem() -> None:
    every = torch.ones(6, 3, dtype=torch.bool)
    net = network(TOY_TASKS)
    net.heads["depth"].forward = lambda z: torch.full((len(z), 1, 8, 8), math.inf)
    found = evaluate(net, batches(every), CPU)
    assert {"depth/abs_err is infinite", "depth/rmse is infinite"} <= set(found.problems)
    assert all(problem.startswith("depth/") for problem in found.problems)


def test_workers_give_the_same_batches() -> None:
    data = Shapes(6, (8, 8), "test")
    every = torch.ones(6, 3, dtype=torch.bool)
    loader = evaluation_loader(data, every, range(6), 4, workers=2)
    assert loader.num_workers == 2
    for a, b in zip(loader, evaluation_loader(data, every, range(6), 4), strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.index, b.index)
