"""Means over an epoch against means computed from lists."""

import math

import pytest
import torch

from mtl_core.training.epoch import EpochMeans

STEPS = [
    {"a": 1.0, "b": 2.0},
    {"a": 3.0, "b": math.nan},
    {"b": 6.0, "c": math.inf},
    {"b": -math.inf, "a": 5.0},
]


def averages(steps: list[dict[str, float]], made: EpochMeans | None = None) -> EpochMeans:
    made = made or EpochMeans(torch.device("cpu"))
    for values in steps:
        made.add({name: torch.tensor(value) for name, value in values.items()}, torch.tensor(float("a" not in values)))
    return made


def test_means_leave_out_what_is_not_finite() -> None:
    found = averages(STEPS).take()
    assert found["a"] == 3
    assert found["b"] == 4
    assert math.isnan(found["c"])
    assert found["skipped_steps"] == 1


def test_an_epoch_starts_from_nothing() -> None:
    made = averages(STEPS)
    made.take()
    assert averages([{"a": 7.0}], made).take() == {"a": 7.0, "skipped_steps": 0.0}


@pytest.mark.parametrize("stop", range(len(STEPS) + 1))
def test_a_resumed_epoch_ends_with_the_same_means(stop: int) -> None:
    stopped = averages(STEPS[:stop])
    resumed = EpochMeans(torch.device("cpu"))
    resumed.load_state_dict(stopped.state_dict())
    found = averages(STEPS[stop:], resumed).take()
    whole = averages(STEPS).take()
    assert repr(found) == repr(whole)


def test_values_of_other_types_are_taken() -> None:
    made = EpochMeans(torch.device("cpu"))
    made.add({"half": torch.tensor(1.5, dtype=torch.bfloat16), "true": torch.tensor(True), "count": torch.tensor(3)})
    assert made.take() == {"half": 1.5, "true": 1.0, "count": 3.0, "skipped_steps": 0.0}
