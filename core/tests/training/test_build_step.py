"""A step: labels are compared with view 0 alone, and withheld ones with nothing."""

from __future__ import annotations

import pytest
import torch

from mtl_core.data.sample import Batch
from mtl_core.step.step import Step
from mtl_core.testing import make_batch, make_tasks
from mtl_core.testing.factories import make_predictions
from mtl_core.training.build_step import build_step

TASKS = make_tasks()
SIZE = (6, 8)


def batch_of(labelled: torch.Tensor | None = None) -> Batch:
    return make_batch(TASKS, labelled, size=SIZE)


def step_of(batch: Batch, views: int = 1, seed: int = 0, normalize: str = "sample") -> Step:
    predictions = make_predictions(TASKS, views, len(batch.images), SIZE, seed)
    images = batch.images.expand(views, *batch.images.shape)
    features = torch.zeros(views * len(batch.images), 2, *SIZE)
    return build_step(TASKS, batch, images, predictions, features, torch.Generator(), normalize)  # type: ignore[arg-type]


def test_the_losses_are_those_of_view_0() -> None:
    batch = batch_of()
    both = step_of(batch, views=2)
    first = {name: p[0] for name, p in both.predictions.items()}
    for k, task in enumerate(TASKS):
        torch.testing.assert_close(both.losses[:, k], task.loss(first[task.name], batch.targets[task.name]))
    assert both.losses.shape == (4, 3)
    # normalize = "sample": the three losses of an image are one mean
    torch.testing.assert_close(both.task_losses, both.losses.mean(0) / 3)


def test_a_withheld_label_costs_nothing_and_a_task_without_any_is_not_active() -> None:
    labelled = torch.tensor([[True, False, False], [True, True, False]])
    step = step_of(batch_of(labelled))
    assert (step.losses != 0).tolist() == labelled.tolist()
    assert step.active.tolist() == [True, True, False]
    assert step.task_losses[2] == 0


@pytest.mark.parametrize("normalize", ["sample", "task", "none"])
def test_gradients_reach_view_0_alone(normalize: str) -> None:
    step = step_of(batch_of(), views=3, normalize=normalize)
    step.task_losses.sum().backward()
    for prediction in step.predictions.values():
        reached = prediction.grad.flatten(1).any(1)  # type: ignore[union-attr]
        assert reached.tolist() == [True, False, False]
