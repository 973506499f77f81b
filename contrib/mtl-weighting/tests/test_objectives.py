"""Second objectives against sums written out, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mtl_core.testing import make_tasks
from mtl_weighting.objectives import OBJECTIVES, _dice, _gradient

TASKS = make_tasks("segmentation", "depth")
SIZE = (5, 6)


def example(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    task, generator = TASKS[name], torch.Generator().manual_seed(0)
    return torch.randn(3, task.channels, *SIZE, generator=generator), task.example(3, SIZE, generator)


def test_dice_over_the_classes_that_the_label_shows() -> None:
    prediction, target = example("segmentation")
    target[0].clamp_(max=1)  # an image of two classes
    p = prediction.softmax(1).double().numpy()
    for b, found in enumerate(_dice(TASKS["segmentation"], prediction, target).tolist()):
        known = target[b].numpy() >= 0
        parts = []
        for c in set(target[b][known].tolist()):
            y = (target[b].numpy() == c) & known
            parts.append(1 - 2 * p[b, c][y].sum() / (p[b, c][known].sum() + y.sum()))
        assert found == pytest.approx(float(np.mean(parts)), rel=1e-5)


def test_gradients_between_neighbours_that_are_both_valid() -> None:
    prediction, target = example("depth")
    off = np.where(target[:, 0].numpy() > 0, (prediction - target)[:, 0].numpy(), math.nan)
    found = _gradient(TASKS["depth"], prediction, target)
    for b in range(3):
        expected = np.mean([np.nanmean(abs(np.diff(off[b], axis=axis))) for axis in (0, 1)])
        assert found[b].item() == pytest.approx(float(expected), rel=1e-5)


def test_an_error_that_is_the_same_everywhere_has_no_gradient() -> None:
    _, target = example("depth")
    assert _gradient(TASKS["depth"], target + 3, target).abs().max() < 1e-5


@pytest.mark.parametrize(("name", "task"), [("dice", "segmentation"), ("gradient", "depth")])
def test_a_sample_without_a_label_costs_nothing_and_gives_finite_gradients(name: str, task: str) -> None:
    prediction, target = example(task)
    blank = TASKS[task].blank(target)
    prediction.requires_grad_()
    loss = OBJECTIVES[name].loss(TASKS[task], prediction, blank)
    assert loss.tolist() == [0, 0, 0]
    loss.sum().backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()
