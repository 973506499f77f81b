"""Which heads received a gradient, and from where."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mtl_core.diagnostics import HeadGradients

LABELLED = torch.tensor([[True, False], [True, True], [False, False], [True, False]])


def watched(views: int = 1) -> tuple[HeadGradients, dict[str, Tensor]]:
    heads = HeadGradients()
    predictions = {name: torch.ones(views, 4, 2, 3, 3, requires_grad=True) for name in ("a", "b")}
    heads.watch(predictions, LABELLED)
    return heads, predictions


def supervised(predictions: dict[str, Tensor]) -> Tensor:
    per_sample = torch.stack([p[0].square().flatten(1).sum(1) for p in predictions.values()], 1)
    return (per_sample * LABELLED).sum()


def shares(heads: HeadGradients) -> dict[str, float]:
    return {name: float(value) for name, value in heads.shares().items()}


def test_labels_alone() -> None:
    heads, predictions = watched()
    supervised(predictions).backward()
    assert shares(heads) == {
        "heads/labels/a": 0.75, "heads/regularizer/a": 0.0, "heads/labels/b": 0.25, "heads/regularizer/b": 0.0,
    }  # fmt: skip


def test_a_regularizer_reaches_what_has_no_label() -> None:
    """It acts on task b of the first two samples: one of them has the label already."""
    heads, predictions = watched()
    (supervised(predictions) + predictions["b"][0, :2].sum()).backward()
    found = shares(heads)
    assert (found["heads/labels/b"], found["heads/regularizer/b"]) == (0.25, 0.25)


def test_other_views_have_no_labels() -> None:
    heads, predictions = watched(views=2)
    (supervised(predictions) + predictions["a"][1, 3].sum()).backward()
    assert shares(heads)["heads/regularizer/a"] == 0.25


def test_a_head_that_nothing_reached_and_a_frozen_one() -> None:
    heads = HeadGradients()
    heads.watch({"a": torch.ones(1, 4, 2), "b": torch.ones(1, 4, 2, requires_grad=True)}, LABELLED)
    assert set(shares(heads).values()) == {0.0}


@pytest.mark.parametrize("scale", [1e-30, float("nan")])
def test_small_and_broken_gradients_count(scale: float) -> None:
    heads, predictions = watched()
    (supervised(predictions) * scale).backward()
    assert shares(heads)["heads/labels/a"] == 0.75
