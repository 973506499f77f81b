"""odsF of whole images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl_core import Tasks
from mtl_pascal_context.boundaries import benchmark_edges
from mtl_pascal_context.edge_metric import BoundaryMetrics, _valid_part
from mtl_pascal_context.tasks import Boundaries

FORMS = ("fast", "dilated", "exact")
SIZE = (60, 80)


def label(seed: int = 0, size: tuple[int, int] = SIZE) -> Tensor:
    """Boundaries of a few regions (1, H, W)."""
    rng = np.random.default_rng(seed)
    points = rng.random((5, 2)) * size
    y, x = np.mgrid[: size[0], : size[1]]
    regions = np.argmin([(y - a) ** 2 + (x - b) ** 2 for a, b in points], 0)
    return torch.from_numpy(benchmark_edges(regions)).float()[None]


def logits(probability: Tensor) -> Tensor:
    return torch.logit(probability.clamp(1e-4, 1 - 1e-4))


def ods_f(
    prediction: Tensor, target: Tensor, form: Any = "exact", tolerance: float = 0.0075, suppression: bool = True
) -> float:
    metric = BoundaryMetrics(tolerance, form, suppression)
    metric.update(prediction[None], target[None])
    return float(metric.compute()["ods_f"])


@pytest.mark.parametrize("form", FORMS)
def test_the_label_itself_is_perfect_but_for_the_border(form: str) -> None:
    """Suppression turns the border's pixels down to 0, where the outermost cannot be found."""
    assert 97 < ods_f(logits(label()), label(), form) < 100
    assert form == "dilated" or ods_f(logits(label()), label(), form, suppression=False) == 100


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("shift", "low", "high"), [(1, 90, 100), (6, 0, 45)])
def test_lines_that_are_off(form: str, shift: int, low: float, high: float) -> None:
    """One pixel is within 0.02 of the diagonal, six are not; crossing lines meet by chance."""
    target = label()
    moved = torch.roll(target, (shift, shift), (1, 2))
    assert low <= ods_f(logits(moved * 0.8), target, form, tolerance=0.02) <= high


def test_thick_lines_are_thinned() -> None:
    """Unlike the pixelwise F of core's edges."""
    target = label()
    thick = torch.nn.functional.max_pool2d(target, 3, 1, 1)
    assert ods_f(logits(thick), target, tolerance=0.02, suppression=False) > 95


@pytest.mark.parametrize("form", FORMS)
def test_padding_does_not_count(form: str) -> None:
    """Neither as a wider tolerance nor as false alarms."""
    target = label()
    rng = torch.Generator().manual_seed(0)
    prediction = logits(torch.roll(target, 1, 2) * 0.6 + torch.rand(1, *SIZE, generator=rng) * 0.3)
    padded = torch.nn.functional.pad(target, (9, 3, 40, 2), value=torch.nan)
    noise = torch.nn.functional.pad(prediction, (9, 3, 40, 2), value=5.0)
    assert ods_f(noise, padded, form) == ods_f(prediction, target, form)


def test_open_pixels_inside_count_neither_way() -> None:
    target = label()
    target[:, 20:30] = torch.nan
    alarm = logits(torch.where(target.isnan(), torch.ones(()), target))
    assert ods_f(alarm, target, suppression=False) == 100


@pytest.mark.parametrize("form", FORMS)
def test_parts_of_a_data_set_add_up(form: Any) -> None:
    """Counts are added over images before F is taken: a data set's F and not the mean of the images'."""
    targets = torch.stack([label(0), label(1), label(2)])
    predictions = logits(torch.roll(targets, 1, 3) * torch.tensor([0.3, 0.6, 0.9]).view(3, 1, 1, 1))
    whole, first, second = (BoundaryMetrics(0.0075, form) for _ in range(3))
    whole.update(predictions, targets)
    first.update(predictions[:1], targets[:1])
    second.update(predictions[1:], targets[1:])
    for state in ("predicted", "matched", "true", "images"):
        assert torch.equal(getattr(first, state) + getattr(second, state), getattr(whole, state))
    f = 2 * whole.matched / (whole.predicted + whole.true)
    assert float(whole.compute()["ods_f"]) == pytest.approx(100 * float(f.max()))


@pytest.mark.parametrize("suppression", [True, False])
def test_the_fast_form_is_near_the_exact(suppression: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    targets = torch.stack([label(k) for k in range(3)])
    soft = torch.nn.functional.avg_pool2d(torch.roll(targets, 1, 3), 3, 1, 1)
    predictions = logits((soft * 2 + torch.rand(soft.shape, generator=rng) * 0.5).clamp(0, 1) * 0.8)
    found = []
    for form in ("fast", "exact"):
        metric = BoundaryMetrics(0.02, form, suppression)
        metric.update(predictions, targets)
        found.append(float(metric.compute()["ods_f"]))
    assert found[0] == pytest.approx(found[1], abs=1)
    assert 30 < found[1] < 99


def test_withheld_labels_and_no_data() -> None:
    metric = BoundaryMetrics(0.0075, "fast")
    metric.update(torch.zeros(1, 1, *SIZE), torch.full((1, 1, *SIZE), torch.nan))
    assert metric.images == 0
    metric._update_count = 1
    assert metric.compute()["ods_f"].isnan()


def test_a_network_that_diverged_finds_nothing() -> None:
    assert ods_f(torch.full((1, *SIZE), torch.nan), label(), "fast") == 0


def test_an_image_without_edges() -> None:
    nothing = torch.zeros(1, *SIZE)
    assert ods_f(logits(nothing), nothing) == 0
    assert ods_f(logits(label()), nothing) == 0


def test_the_part_that_counts() -> None:
    open_all = np.full((4, 5), np.nan)
    assert _valid_part(open_all) is None
    open_all[1, 2] = open_all[2, 4] = 0
    assert _valid_part(open_all) == (slice(1, 3), slice(2, 5))


def test_the_task_gives_its_metric() -> None:
    task = Boundaries(name="edges", tolerance=0.011, form="exact", suppression=False)
    metric = task.metrics()
    assert isinstance(metric, BoundaryMetrics)
    assert (metric.tolerance, metric.form, metric.suppression) == (0.011, "exact", False)
    assert (task.headline, task.higher_is_better, Tasks([task]).names) == ("ods_f", True, ("edges",))
