"""Means over an epoch against means computed from lists."""

import math

import pytest
import torch

from mtl_core.experiment import Experiment
from mtl_core.tasks.regression import Depth
from mtl_core.tasks.segmentation import Segmentation
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.toys import ToyData
from mtl_core.training.epoch import BestEpoch, EpochMeans

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


def test_long_epochs_resume_and_are_looked_at_without_a_trace() -> None:
    """More steps than are added up at once, of two sets of names."""
    steps = [{"a": 1 / (k + 1), "b": math.nan} if k % 3 else {"b": 0.1 * k} for k in range(100)]
    whole = averages(steps).take()
    assert whole["a"] == pytest.approx(sum(step["a"] for step in steps if "a" in step) / 66)
    assert whole["b"] == pytest.approx(0.1 * sum(range(0, 100, 3)) / 34)
    assert whole["skipped_steps"] == 34
    watched = EpochMeans(torch.device("cpu"))
    for step in steps[:71]:
        averages([step], watched)
        assert watched.so_far()["b"] >= 0
    resumed = EpochMeans(torch.device("cpu"))
    resumed.load_state_dict(watched.state_dict())
    assert repr(averages(steps[71:], resumed).take()) == repr(whole)


TASKS = Tasks([Segmentation(name="s", channels=3), Depth(name="d")])
NAN, MIOU, ERROR = math.nan, "val/s/miou", "val/d/abs_err"


def best_epoch(on: str | None = None) -> BestEpoch:
    return BestEpoch(TASKS, Experiment(name="x", plugins=[ToyData()], best_on=on))


@pytest.mark.parametrize(
    ("epochs", "better"),
    [
        ([(0.2, 1.0), (0.3, 1.0), (0.25, 0.9)], [True, True, False]),
        ([(0.2, 1.0), (0.3, 1.1), (0.19, 0.4)], [True, True, True]),
        # a task whose predictions are NaN in an epoch takes that epoch out, however good the others are
        ([(0.2, 1.0), (0.9, NAN), (0.21, 1.0)], [True, False, True]),
        ([(0.2, 1.0), (NAN, 0.1)], [True, False]),
        # one that was NaN first is not better for that
        ([(0.9, NAN), (0.2, 1.0), (0.95, NAN), (NAN, NAN)], [True, True, False, False]),
        # one without a validation label is NaN in every epoch
        ([(NAN, 1.0), (NAN, 0.9), (NAN, 0.95)], [True, True, False]),
        ([(NAN, NAN), (NAN, NAN)], [True, True]),
        # a first value of 0, or near it, is no measure: the other task counts as much
        ([(0.0, 1.0), (0.001, 3.0), (0.4, 1.2)], [True, False, True]),
        ([(1e-6, 1.0), (0.4, 1.0), (0.41, 2.0)], [True, True, False]),
        ([(0.0, 1.0), (0.0, 0.5), (0.0, 0.6)], [True, True, False]),
    ],
)
def test_the_best_epoch_is_that_of_all_tasks(epochs: list[tuple[float, float]], better: list[bool]) -> None:
    for stop in range(len(epochs) + 1):
        chosen, found = best_epoch(), []
        for number, (miou, error) in enumerate(epochs):
            if number == stop:  # resumed here
                state, chosen = chosen.state_dict(), best_epoch()
                chosen.load_state_dict(state)
            found.append(chosen.better({MIOU: miou, ERROR: error}))
        assert found == better


@pytest.mark.parametrize(
    ("on", "values", "better"),
    [
        ("d/abs_err", [2.0, NAN, 1.0, 1.5], [True, False, True, False]),
        ("s/miou", [0.0, 0.1, NAN, 0.05], [True, True, False, False]),
        ("s/miou", [NAN, NAN], [False, False]),
    ],
)
def test_a_named_metric_decides_alone(on: str, values: list[float], better: list[bool]) -> None:
    chosen = best_epoch(on)
    assert [chosen.better({MIOU: 0.5, ERROR: 1.0, f"val/{on}": value}) for value in values] == better


def test_without_validation_the_last_epoch_is_best() -> None:
    chosen = best_epoch()
    assert [chosen.better({"train/loss": 1.0}) for _ in range(3)] == [True] * 3
