"""Which heads received a gradient, and from where."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mtl_core.training.head_gradients import HeadGradients

LABELLED = torch.tensor([[True, False], [True, True], [False, False], [True, False]])
Predictions = dict[str, Tensor]


def watched(views: int = 1, frozen: tuple[str, ...] = ()) -> tuple[HeadGradients, Predictions, Predictions]:
    """What the losses and what the regularizers see."""
    heads = HeadGradients()
    predictions = {name: torch.ones(views, 4, 2, 3, 3, requires_grad=name not in frozen) for name in ("a", "b")}
    heads.start(predictions)
    return heads, heads.watched("labels", predictions), heads.watched("regularizer", predictions)


def supervised(predictions: Predictions) -> Tensor:
    per_sample = torch.stack([p[0].square().flatten(1).sum(1) for p in predictions.values()], 1)
    return (per_sample * LABELLED).sum()


def shares(heads: HeadGradients) -> dict[str, float]:
    return {name: float(value) for name, value in heads.shares().items()}


def test_labels_alone() -> None:
    heads, compared, _ = watched()
    supervised(compared).backward()
    assert shares(heads) == {
        "heads/labels/a": 0.75, "heads/labels/b": 0.25, "heads/regularizer/a": 0.0, "heads/regularizer/b": 0.0,
    }  # fmt: skip


def test_a_regularizer_counts_with_and_without_a_label() -> None:
    """It acts on task b of the first two samples, of which one has the label already."""
    heads, compared, regularized = watched()
    (supervised(compared) + regularized["b"][0, :2].sum()).backward()
    found = shares(heads)
    assert (found["heads/labels/b"], found["heads/regularizer/b"]) == (0.25, 0.5)


def test_a_sample_counts_once_however_many_views_were_reached() -> None:
    heads, compared, regularized = watched(views=2)
    (supervised(compared) + regularized["a"][:, 3].sum()).backward()
    assert shares(heads)["heads/regularizer/a"] == 0.25


def test_a_step_forgets_the_one_before() -> None:
    heads, compared, _ = watched()
    supervised(compared).backward()
    heads.start(compared)
    assert set(shares(heads).values()) == {0.0}


def test_a_frozen_head_is_reached_by_nothing() -> None:
    heads, compared, _ = watched(frozen=("a",))
    supervised(compared).backward()
    assert (shares(heads)["heads/labels/a"], shares(heads)["heads/labels/b"]) == (0.0, 0.25)


@pytest.mark.parametrize("scale", [1e-30, float("nan")])
def test_small_and_broken_gradients_count(scale: float) -> None:
    heads, compared, _ = watched()
    (supervised(compared) * scale).backward()
    assert shares(heads)["heads/labels/a"] >= 0.75  # 0 · NaN is NaN
