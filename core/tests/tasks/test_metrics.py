"""Metrics against numpy, pixel by pixel; parts that add up; pixels that do not count."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from mtl_core.tasks.classification import Classification
from mtl_core.tasks.edges import BinaryEdges
from mtl_core.tasks.normals import Normals
from mtl_core.tasks.regression import Depth, Regression
from mtl_core.tasks.segmentation import Segmentation
from mtl_core.tasks.task import Task

B = 4
H = 6
W = 8
C = 5
SEGMENTATION = Segmentation(name="s", channels=C)
DEPTH = Depth(name="d")
SHADING = Regression(name="r", channels=2)
NORMALS = Normals(name="n")
EDGES = BinaryEdges(name="e")
KIND = Classification(name="k", channels=C)
TASKS = (SEGMENTATION, DEPTH, SHADING, NORMALS, EDGES, KIND)
every_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def holes(target: Tensor, task: Task, seed: int = 9) -> Tensor:
    """About a third of the pixels (of the images, for a class per image) become invalid."""
    shape = (B,) if target.ndim == 1 else (B, H, W) if target.ndim == 3 else (B, 1, H, W)
    gone = random(*shape, seed=seed) > 0.4
    gone.view(-1)[:2] = torch.tensor([True, False])
    return torch.where(gone, torch.full_like(target, task.ignored), target)


def example(task: Task, seed: int = 0) -> tuple[Tensor, Tensor]:
    """What a head gives, and labels with holes."""
    dense = random(B, task.channels, H, W, seed=seed)
    other = random(B, task.channels, H, W, seed=seed + 1)
    if isinstance(task, Segmentation):
        return dense, holes(other[:, : C - 1].argmax(1), task)
    if isinstance(task, Classification):
        return dense[..., 0, 0], holes(other[..., 0, 0].argmax(1), task)
    if isinstance(task, BinaryEdges):
        return dense, holes((other > 0.8).float(), task)
    if isinstance(task, Normals):
        # close enough to the truth that every share of angles is strictly between 0 and 100
        return 3 * (other + 0.4 * dense), holes(torch.nn.functional.normalize(other, dim=1), task)
    return dense, holes(other.abs() + 0.1, task)


def measured(metric: Metric, *parts: tuple[Tensor, Tensor]) -> dict[str, float]:
    for prediction, target in parts:
        metric.update(prediction, target)
    return {name: float(value) for name, value in metric.compute().items()}


def found(task: Task) -> dict[str, float]:
    return measured(task.metrics(), example(task))


def test_miou_counts_pixels_of_the_whole_data_set() -> None:
    logits, target = (x.numpy() for x in example(SEGMENTATION))
    keep = target >= 0
    guess = logits.argmax(1)[keep]
    truth = target[keep]
    assert C - 1 not in truth
    assert C - 1 in guess
    ious = [np.sum((guess == c) & (truth == c)) / np.sum((guess == c) | (truth == c)) for c in range(C)]
    expected = {"miou": 100 * np.mean(ious), "pixel_accuracy": 100 * np.mean(guess == truth)}
    assert found(SEGMENTATION) == pytest.approx(expected)


def test_a_class_that_occurs_nowhere_is_left_out_of_miou() -> None:
    target = torch.tensor([[[0, 0, 1, -1]]])
    logits = torch.nn.functional.one_hot(torch.tensor([[[0, 1, 1, 2]]]), C).permute(0, 3, 1, 2).float()
    values = measured(SEGMENTATION.metrics(), (logits, target))
    assert values == pytest.approx({"miou": 50.0, "pixel_accuracy": 200 / 3})


def test_iou_of_every_class_is_a_detail_by_name() -> None:
    prediction, target = example(SEGMENTATION)
    guess = prediction.argmax(1).numpy()
    truth = target.numpy()
    guess = guess[truth >= 0]
    truth = truth[truth >= 0]
    ious = [100 * np.sum((guess == c) & (truth == c)) / np.sum((guess == c) | (truth == c)) for c in range(C)]
    metric = SEGMENTATION.metrics()
    metric.update(prediction, target)
    assert SEGMENTATION.details(metric) == pytest.approx({f"iou/{c}": iou for c, iou in enumerate(ious)})
    named = Segmentation(name="s", channels=C, classes=("wall", "floor", "bed", "chair", "sky"))
    assert list(named.details(metric)) == ["iou/wall", "iou/floor", "iou/bed", "iou/chair", "iou/sky"]


@pytest.mark.parametrize("task", [DEPTH, SHADING], ids=["Depth", "Regression"])
def test_errors_of_values(task: Task) -> None:
    prediction, target = (x.double().numpy() for x in example(task))
    keep = np.isfinite(target) & (target > 0)
    error = (prediction - target)[keep]
    values = found(task)
    assert values["abs_err"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert values["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)


def test_relative_and_logarithmic_errors_of_depth() -> None:
    prediction, target = example(DEPTH)
    assert (prediction < 0).any()
    y, p = (x[target > 0].double().numpy() for x in (target, prediction))
    least = np.maximum(p, 1e-9)
    ratio = np.where(p > 0, np.maximum(least / y, y / least), np.inf)
    expected = {
        "rel_err": np.mean(np.abs(p - y) / y),
        "log_rmse": np.sqrt(np.mean((np.log(least) - np.log(y)) ** 2)),
        **{f"delta{k}": 100 * np.mean(ratio < 1.25**k) for k in (1, 2, 3)},
    }
    values = found(DEPTH)
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert 0 < values["delta1"] < values["delta3"] < 100


def test_depth_is_clamped_where_the_task_says_so() -> None:
    prediction = torch.tensor([-3.0, 2.0]).view(1, 1, 1, 2)
    target = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)
    plain = measured(DEPTH.metrics(), (prediction, target))
    clamped = measured(Depth(name="d", clamp=1e-9).metrics(), (prediction, target))
    assert plain["abs_err"] == pytest.approx(2.0)
    assert clamped["abs_err"] == pytest.approx(0.5)
    assert clamped["log_rmse"] == plain["log_rmse"]


@pytest.mark.parametrize(
    ("task", "metric", "higher", "unit"),
    [
        (DEPTH, "rel_err", False, ""),
        (DEPTH, "log_rmse", False, ""),
        (DEPTH, "rmse", False, "m"),
        (DEPTH, "delta2", True, "%"),
        (Depth(name="d", disparity=True), "rmse", False, ""),
        (NORMALS, "rmse_angle", False, "°"),
        (EDGES, "abs_err", False, ""),
        (SHADING, "rmse", False, ""),
    ],
)
def test_a_metric_has_its_direction_and_unit(task: Task, metric: str, higher: bool, unit: str) -> None:
    assert metric in found(task)
    assert task.better_when_higher(metric) is higher
    assert task.unit(metric) == unit


def test_angles() -> None:
    prediction, target = (x.double().numpy() for x in example(NORMALS))
    dot = (prediction * target).sum(1)
    cross = np.linalg.norm(np.cross(prediction, target, axis=1), axis=1)
    degrees = np.degrees(np.arctan2(cross, dot))[np.linalg.norm(target, axis=1) > 0.5]
    expected = {"mean_angle": degrees.mean(), "rmse_angle": np.sqrt((degrees**2).mean())} | {
        f"within_{limit:g}": 100 * np.mean(degrees < limit) for limit in (11.25, 22.5, 30)
    }
    values = found(NORMALS)
    median = values.pop("median_angle")
    assert values == pytest.approx(expected, abs=1e-3)
    assert all(0 < share < 100 for name, share in expected.items() if name.startswith("within"))
    assert np.sort(degrees)[(len(degrees) - 1) // 2] == pytest.approx(median, abs=0.011)


def test_f_of_the_best_threshold() -> None:
    logits, target = example(EDGES)
    keep = target.isfinite().numpy()
    p = logits.sigmoid().numpy()[keep]
    edge = target.numpy()[keep] > 0.5
    fs = []
    for threshold in np.linspace(0.01, 0.99, 99, dtype=np.float32):
        hit = np.sum((p > threshold) & edge)
        precision = hit / max(np.sum(p > threshold), 1)
        recall = hit / edge.sum()
        fs.append(2 * precision * recall / max(precision + recall, 1e-12))
    expected = {"ods_f": 100 * max(fs), "abs_err": np.abs(p - edge).mean()}
    assert found(EDGES) == pytest.approx(expected, rel=1e-5)


def test_top1() -> None:
    logits, target = example(KIND)
    keep = target >= 0
    assert found(KIND) == pytest.approx({"top1": 100 * (logits.argmax(1) == target)[keep].float().mean().item()})


def perfect(task: Task, target: Tensor) -> Tensor:
    """What a head would give that knows the labels."""
    known = task.encode(target)
    return 200 * (known - 0.5) if isinstance(task, BinaryEdges) else known


@every_task
def test_what_is_right_has_no_error_and_a_hundred_per_cent(task: Task) -> None:
    _, target = example(task)
    values = measured(task.metrics(), (perfect(task, target), target))
    ideal = {name: 100.0 if task.better_when_higher(name) else 0.0 for name in values}
    assert values == pytest.approx(ideal, abs=0.05)


@every_task
def test_two_halves_merged_are_the_whole(task: Task) -> None:
    prediction, target = example(task)
    first = task.metrics()
    second = task.metrics()
    first.update(prediction[:1], target[:1])
    second.update(prediction[1:], target[1:])
    first.merge_state(second)
    merged = {name: float(value) for name, value in first.compute().items()}
    assert merged == pytest.approx(found(task))
    assert measured(task.metrics(), (prediction[:1], target[:1]), (prediction[1:], target[1:])) == pytest.approx(merged)


@every_task
def test_ranks_are_reduced_by_sums(task: Task) -> None:
    metric = task.metrics()
    reductions = metric._reductions
    assert reductions.keys() == metric._defaults.keys()
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert all(reduce(rows).tolist() == [4.0, 6.0] for reduce in reductions.values())


@every_task
def test_invalid_pixels_change_nothing(task: Task) -> None:
    prediction, target = example(task)
    valid = task.valid(target)
    assert 0 < valid.float().mean() < 1
    nonsense = torch.where(valid, prediction, torch.full_like(prediction, math.nan))
    assert measured(task.metrics(), (nonsense, target)) == found(task)


@every_task
def test_without_a_valid_pixel_every_value_is_nan(task: Task) -> None:
    prediction, target = example(task)
    assert all(math.isnan(v) for v in measured(task.metrics(), (prediction, task.blank(target))).values())


@every_task
def test_reset_forgets(task: Task) -> None:
    metric = task.metrics()
    measured(metric, example(task, seed=5))
    metric.reset()
    assert measured(metric, example(task)) == found(task)


@every_task
def test_an_update_reads_no_value(task: Task) -> None:
    """On the meta device a read, or a shape that depends on values, raises."""
    prediction, target = example(task)
    metric = task.metrics().to("meta")
    metric.update(prediction.to("meta"), target.to("meta"))
    assert metric.update_called


@every_task
def test_a_network_that_diverged_has_no_metric_that_looks_real(task: Task) -> None:
    """One image of nothing but NaN is enough."""
    prediction, target = example(task)
    prediction[1] = math.nan
    assert task.valid(target)[1].any()
    metric = task.metrics()
    values = measured(metric, (prediction, target))
    assert all(map(math.isnan, values.values())), values
    assert all(map(math.isnan, task.details(metric).values()))


@pytest.mark.parametrize("task", [NORMALS, EDGES])
@pytest.mark.parametrize("everywhere", [True, False])
def test_a_prediction_that_is_nan_gives_no_metric(task: Task, everywhere: bool) -> None:
    """As an angle it would have a median, as a probability an F that looks like others."""
    prediction, target = example(task)
    broken = torch.full_like(prediction, math.nan)
    if not everywhere:
        broken = torch.where(task.valid(target).cumsum(-1) == 1, broken, prediction)
    values = measured(task.metrics(), (broken, target))
    assert all(math.isnan(value) for value in values.values()), values


@pytest.mark.parametrize("task", [NORMALS, EDGES])
def test_a_nan_where_no_label_counts_is_not_looked_at(task: Task) -> None:
    prediction, target = example(task)
    target = torch.where(torch.rand(target.shape[0], 1, *target.shape[2:]) < 0.5, task.blank(target), target)
    valid = task.valid(target)
    assert not valid.all()
    broken = torch.where(valid, prediction, math.nan)
    assert measured(task.metrics(), (broken, target)) == measured(task.metrics(), (prediction, target))


def test_sums_do_not_lose_small_parts() -> None:
    """A float32 sum of ones stops at 2^24."""
    metric = DEPTH.metrics()
    metric.absolute += 2.0**24
    metric.count += 2.0**24
    metric.update(torch.full((1, 1, 1, 1), 2.0), torch.ones(1, 1, 1, 1))
    assert metric.absolute - 2.0**24 == 1
    assert metric.count - 2.0**24 == 1


def test_classes_are_counted_as_torchmetrics_counts_them() -> None:
    task = Segmentation(name="s", channels=5)
    logits, labels = example(task)
    ours = task.metrics()
    ours.update(logits, labels)
    theirs = MulticlassConfusionMatrix(5, ignore_index=-1)
    theirs.update(logits, labels)
    assert (labels == -1).any()
    assert ours.confusion.equal(theirs.compute().to(ours.confusion.dtype))


def test_top1_is_torchmetrics_accuracy() -> None:
    logits = random(40, 4, seed=1)
    labels = torch.arange(40) % 5 - 1
    ours = Classification(name="k", channels=4).metrics()
    ours.update(logits, labels)
    theirs = MulticlassAccuracy(4, ignore_index=-1, average="micro")
    theirs.update(logits, labels)
    assert float(ours.compute()["top1"]) == pytest.approx(100 * float(theirs.compute()))
