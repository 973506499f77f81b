"""Samples, batches and steps of the testing kit are what they say."""

import pytest
import torch

from mtl_core.testing import (
    EXAMPLES,
    make_batch,
    make_sample,
    make_step,
    make_tasks,
    masks,
)
from mtl_core.testing.factories import other_invalid_values

SMALL = (32, 32)


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_a_withheld_label_of_a_batch_is_invalid_and_the_others_are_not(name: str) -> None:
    tasks = make_tasks(name)
    batch = make_batch(tasks, torch.tensor([[True], [False]]), size=SMALL)
    valid = tasks[name].valid(batch.targets[name]).flatten(1)
    assert valid[0].any()
    assert not valid[1].any()


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_other_invalid_values_are_invalid_and_the_valid_ones_stay(name: str) -> None:
    tasks = make_tasks(name)
    target = make_batch(tasks, torch.tensor([[True], [False]]), size=SMALL).targets[name]
    other = other_invalid_values(tasks[name], target)
    valid = tasks[name].valid(target)
    assert torch.equal(tasks[name].valid(other), valid)
    kept = valid.view(target.shape) if target.ndim < 4 and valid.numel() == target.numel() else valid.expand_as(target)
    assert torch.equal(other[kept], target[kept])
    assert not torch.equal(other, target)


def test_a_step_has_the_losses_of_its_predictions() -> None:
    tasks = make_tasks("depth", "scene")
    step = make_step(tasks, make_batch(tasks, masks(4, 2)["one label"], size=SMALL), views=2)
    assert step.predictions["depth"].shape == (2, 4, 1, 32, 32)
    assert step.predictions["scene"].shape == (2, 4, 4)
    valid = step.targets["depth"][0] > 0
    expected = (step.predictions["depth"][0, 0] - step.targets["depth"][0]).abs()[valid].mean()
    assert torch.allclose(step.losses[0, 0], expected)
    assert step.losses[1, 0] == 0
    assert torch.allclose(step.task_means[0], step.losses[[0, 2], 0].mean())


def test_samples_repeat_by_seed() -> None:
    a, b, c = (make_sample(make_tasks(), SMALL, seed) for seed in (0, 0, 1))
    assert torch.equal(a.image, b.image)
    assert not torch.equal(a.image, c.image)
