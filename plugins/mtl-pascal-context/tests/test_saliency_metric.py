"""Best overlap and best F of saliency over thresholds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mtl_pascal_context.saliency_metric import _BETA_SQUARED, _F_THRESHOLDS, _OVERLAP_THRESHOLDS, SaliencyMetrics


def logits(probability: Tensor) -> Tensor:
    """Two channels whose softmax is this probability of the second: (B, H, W) → (B, 2, H, W)."""
    return torch.stack((torch.zeros_like(probability), torch.logit(probability)), 1)


def metrics_of(probability: Tensor, target: Tensor) -> dict[str, float]:
    metric = SaliencyMetrics()
    metric.update(logits(probability), target)
    return {name: float(value) for name, value in metric.compute().items()}


def test_the_thresholds() -> None:
    assert (_OVERLAP_THRESHOLDS[0], _OVERLAP_THRESHOLDS[-1], len(_OVERLAP_THRESHOLDS)) == (0.2, 0.9, 15)
    assert (_F_THRESHOLDS[0], _F_THRESHOLDS[-1], len(_F_THRESHOLDS)) == (0.05, 0.95, 19)


def test_by_hand() -> None:
    """Two images of four pixels. Above 0.6 the first has 1 of 2 right and none wrong, the second 1 of 1 and 1 wrong."""
    probability = torch.tensor([[[0.95, 0.1, 0.1, 0.1]], [[0.95, 0.95, 0.1, 0.1]]])
    target = torch.tensor([[[1, 1, 0, 0]], [[1, 0, 0, 0]]])
    found = metrics_of(probability, target)
    assert found["miou"] == pytest.approx(100 * (0.5 + 0.5) / 2)
    precision = 2 / 3
    recall = 2 / 3
    expected = (1 + _BETA_SQUARED) * precision * recall / (_BETA_SQUARED * precision + recall)
    assert found["max_f"] == pytest.approx(100 * expected)


def test_the_best_threshold_is_one_for_all_images() -> None:
    """0.3 separates the first image, 0.7 the second, and no threshold both."""
    probability = torch.tensor([[[0.4, 0.25]], [[0.8, 0.6]]])
    target = torch.tensor([[[1, 0]], [[1, 0]]])
    assert metrics_of(probability[:1], target[:1])["miou"] == 100
    assert metrics_of(probability[1:], target[1:])["miou"] == 100
    assert metrics_of(probability, target)["miou"] == pytest.approx(75)


def test_against_loops() -> None:
    draw = torch.Generator().manual_seed(0)
    probability = torch.rand(4, 6, 7, generator=draw).clamp(0.001, 0.999)
    target = (torch.rand(4, 6, 7, generator=draw) < probability).long()
    target[torch.rand(4, 6, 7, generator=draw) < 0.2] = -1
    overlaps = []
    scores = []
    for threshold in _OVERLAP_THRESHOLDS:
        rows = []
        for p, t in zip(probability, target, strict=True):
            chosen = (p > threshold)[t >= 0]
            salient = (t == 1)[t >= 0]
            rows.append((chosen & salient).sum() / (chosen | salient).sum())
        overlaps.append(torch.stack(rows).mean())
    for threshold in _F_THRESHOLDS:
        chosen = (probability >= threshold)[target >= 0]
        salient = (target == 1)[target >= 0]
        hit = (chosen & salient).sum()
        precision = hit / chosen.sum().clamp(min=1)
        recall = hit / salient.sum()
        scores.append(1.3 * precision * recall / (0.3 * precision + recall).clamp(min=1e-12))
    found = metrics_of(probability, target)
    assert found["miou"] == pytest.approx(100 * float(max(overlaps)), rel=1e-4)
    assert found["max_f"] == pytest.approx(100 * float(max(scores)), rel=1e-4)


def test_an_image_without_a_salient_pixel_is_right_when_none_is_found() -> None:
    nothing = torch.zeros(1, 2, 2, dtype=torch.long)
    assert metrics_of(torch.full((1, 2, 2), 0.1), nothing)["miou"] == 100
    assert metrics_of(torch.full((1, 2, 2), 0.95), nothing)["miou"] == 0


def test_withheld_labels_and_no_data() -> None:
    metric = SaliencyMetrics()
    probability = torch.full((2, 2, 2), 0.9)
    target = torch.tensor([[[1, 1], [1, 1]], [[-1, -1], [-1, -1]]])
    metric.update(logits(probability), target)
    assert metric.images == 1
    assert metric.compute()["miou"] == 100
    metric.reset()
    metric._update_count = 1
    assert all(value.isnan() for value in metric.compute().values())


def test_parts_of_a_data_set_add_up() -> None:
    draw = torch.Generator().manual_seed(1)
    probability = torch.rand(3, 4, 4, generator=draw).clamp(0.01, 0.99)
    target = torch.randint(0, 2, (3, 4, 4), generator=draw)
    metric = SaliencyMetrics()
    for k in range(3):
        metric.update(logits(probability[k : k + 1]), target[k : k + 1])
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found == pytest.approx(metrics_of(probability, target))


def test_a_network_that_diverged_finds_nothing() -> None:
    metric = SaliencyMetrics()
    metric.update(torch.full((1, 2, 2, 2), torch.nan), torch.ones(1, 2, 2, dtype=torch.long))
    assert {name: float(value) for name, value in metric.compute().items()} == {"miou": 0, "max_f": 0}
