"""What tasks of classes share: weights, label space, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mtl_core.tasks.classes import ClassTask
from mtl_core.testing import EXAMPLES

KINDS = [EXAMPLES["segmentation"], EXAMPLES["scene"]]
every_kind = pytest.mark.parametrize("task", KINDS, ids=lambda task: type(task).__name__)


def labels(task: ClassTask) -> torch.Tensor:
    return task.example(4, (3, 5), torch.Generator().manual_seed(0))


@every_kind
def test_label_space_is_a_distribution_that_decodes_to_the_label(task: ClassTask) -> None:
    target = labels(task)
    target.view(-1)[0] = -1
    encoded = task.encode(target)
    assert encoded.sum(1).eq(1).all()
    valid = task.valid(target)[:, 0]
    assert torch.equal(task.decode(encoded)[valid], target[valid])
    assert not valid.view(-1)[0]


@every_kind
def test_the_soft_loss_of_a_true_label_is_its_cross_entropy(task: ClassTask) -> None:
    target = labels(task).clamp(min=0)
    prediction = torch.randn(4, task.channels, *target.shape[1:])
    torch.testing.assert_close(task.soft_loss(prediction, task.encode(target)), task.pixel_loss(prediction, target))


@every_kind
def test_weights_of_one_change_nothing(task: ClassTask) -> None:
    target = labels(task)
    prediction = torch.randn(4, task.channels, *target.shape[1:])
    weighted = type(task)(name="w", channels=task.channels, class_weights=(1.0,) * task.channels)
    torch.testing.assert_close(weighted.loss(prediction, target), task.loss(prediction, target))
    assert task.weights(prediction) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": (1.0, 2.0)}, "expected 3 numbers from 0, one for each class"),
        ({"class_weights": (1.0, -1.0, 1.0)}, "expected 3 numbers from 0"),
        ({"class_weights": (0.0, 0.0, 0.0)}, "expected 3 numbers from 0"),
        ({"loss": "focal", "label_smoothing": 0.1}, 'belongs to loss = "cross_entropy"'),
        ({"label_smoothing": 1.0}, "must be < 1"),
        ({"focal_gamma": -1.0}, "must be >= 0"),
    ],
)
@every_kind
def test_options_that_do_not_fit(task: ClassTask, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        type(task)(name="x", channels=3, **options)


@every_kind
def test_a_class_too_many_is_one_line(task: ClassTask) -> None:
    label = labels(task)[0].clone()
    label.view(-1)[0] = task.channels
    assert task.value_problems(label) == [task.range_problem(label)]
    assert f"found class {task.channels}, expected at most {task.channels - 1}" in task.value_problems(label)[0]
