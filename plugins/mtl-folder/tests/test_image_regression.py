"""Numbers per image: loss, metrics, label space, and missing values."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from torch import Tensor

from mtl_core import Tasks
from mtl_folder.image_regression import ImageRegression

NAN = math.nan
PLAIN = ImageRegression(name="x", channels=2)
SCALED = ImageRegression(name="x", channels=2, mean=(10.0, -5.0), deviation=(2.0, 4.0))
TARGET = torch.tensor([[12.0, 3.0], [NAN, -5.0], [NAN, NAN]])


def metrics(task: ImageRegression, *batches: tuple[Tensor, Tensor]) -> dict[str, float]:
    metric = task.metrics()
    for prediction, target in batches:
        metric.update(prediction, target)
    return {name: float(value) for name, value in metric.compute().items()}


def test_l1_and_l2_are_means_over_the_values_that_are_there() -> None:
    prediction = torch.tensor([[10.0, 0.0], [7.0, -3.0], [1.0, 1.0]])
    torch.testing.assert_close(PLAIN.loss(prediction, TARGET), torch.tensor([2.5, 2.0, 0.0]))
    squared = ImageRegression(name="x", channels=2, error="l2")
    torch.testing.assert_close(squared.loss(prediction, TARGET), torch.tensor([6.5, 4.0, 0.0]))


@pytest.mark.parametrize("task", [PLAIN, SCALED], ids=["plain", "scaled"])
def test_missing_values_send_no_gradient(task: ImageRegression) -> None:
    prediction = torch.full((3, 2), 0.3, requires_grad=True)
    task.loss(prediction, TARGET).sum().backward()
    assert prediction.grad is not None
    assert torch.equal(prediction.grad != 0, TARGET.isfinite())


def test_the_head_learns_in_deviations() -> None:
    prediction = torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(SCALED.to_label_space(prediction)[0], torch.tensor([12.0, 3.0]))
    torch.testing.assert_close(SCALED.loss(prediction, TARGET), torch.zeros(3))
    torch.testing.assert_close(SCALED.loss(prediction + 1, TARGET)[:2], torch.ones(2))
    assert torch.equal(SCALED.decode(prediction), SCALED.to_label_space(prediction))


def test_one_mean_for_one_value() -> None:
    task = ImageRegression(name="age", channels=1, mean=(40.0,), deviation=(10.0,))
    torch.testing.assert_close(task.to_label_space(torch.tensor([[1.5]])), torch.tensor([[55.0]]))
    torch.testing.assert_close(task.loss(torch.tensor([[1.0]]), torch.tensor([[40.0]])), torch.ones(1))


def test_soft_loss_is_against_values_in_the_labels_unit() -> None:
    soft = SCALED.soft_loss(torch.zeros(1, 2), torch.tensor([[12.0, -5.0]]))
    torch.testing.assert_close(soft, torch.tensor([[0.5]]))
    assert SCALED.pixel_loss(torch.zeros(3, 2), TARGET).isfinite().all()


def test_valid_is_where_every_value_is_there() -> None:
    assert PLAIN.valid(TARGET).tolist() == [[True], [False], [False]]
    assert PLAIN.encode(TARGET).isfinite().all()
    assert PLAIN.blank(TARGET).isnan().all()
    assert not PLAIN.dense


def test_metrics_are_in_the_labels_unit_and_add_up() -> None:
    prediction = torch.tensor([[1.0, 2.0], [0.0, 0.5], [9.0, 9.0]])
    found = metrics(SCALED, (prediction[:1], TARGET[:1]), (prediction[1:], TARGET[1:]))
    assert found == pytest.approx(metrics(SCALED, (prediction, TARGET)))
    assert found["abs_err"] == pytest.approx(2 / 3)
    assert found["rmse"] == pytest.approx(math.sqrt(4 / 3))


def test_r2_of_a_perfect_prediction_of_the_mean_and_of_one_label() -> None:
    target = torch.tensor([[1.0, 2.0], [3.0, 2.0], [5.0, 2.0]])
    perfect = metrics(PLAIN, (target, target))
    mean = metrics(PLAIN, (target.mean(0).expand(3, 2), target))
    assert perfect["r2"] == pytest.approx(1)
    assert mean["r2"] == pytest.approx(0)
    assert math.isnan(metrics(PLAIN, (target[:1], target[:1]))["r2"])


def test_without_any_label_every_metric_is_nan() -> None:
    found = metrics(PLAIN, (torch.zeros(1, 2), torch.full((1, 2), NAN)))
    assert all(map(math.isnan, found.values()))
    assert PLAIN.headline in found


def test_it_travels_and_runs_on_the_meta_device() -> None:
    assert pickle.loads(pickle.dumps(SCALED)) == SCALED
    metric = pickle.loads(pickle.dumps(SCALED.metrics()))
    metric.update(torch.zeros(1, 2), torch.zeros(1, 2))
    assert float(metric.compute()["abs_err"]) == 7.5
    on_meta = SCALED.loss(torch.zeros(3, 2, device="meta"), TARGET.to("meta"))
    assert on_meta.shape == (3,)
    assert Tasks([SCALED]).names == ("x",)
