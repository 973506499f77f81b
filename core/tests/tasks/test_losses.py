"""The losses that an experiment may choose, against numpy and torch's own modules, image by image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtl_core.tasks.classification import Classification
from mtl_core.tasks.losses import _LEAST_DEPTH, _log_of
from mtl_core.tasks.normals import Normals
from mtl_core.tasks.regression import Depth, Regression
from mtl_core.tasks.segmentation import Segmentation

B, H, W, C = 3, 5, 7, 4
WEIGHTS = (0.5, 2.0, 0.0, 1.25)


def segmentation(**options: Any) -> Segmentation:
    return Segmentation(name="s", channels=C, **options)


def classes(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits, and labels a fifth of which are missing."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(B, C, H, W, generator=generator)
    target = torch.randint(-1, C, (B, H, W), generator=generator)
    return logits, target


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [(), WEIGHTS])
def test_cross_entropy_is_torchs_image_by_image(weights: tuple[float, ...], smoothing: float) -> None:
    logits, target = classes()
    module = nn.CrossEntropyLoss(torch.tensor(weights) if weights else None, ignore_index=-1, label_smoothing=smoothing)
    expected = torch.stack([module(one[None], label[None]) for one, label in zip(logits, target, strict=True)])
    task = segmentation(class_weights=weights, label_smoothing=smoothing)
    assert torch.allclose(task.loss(logits, target), expected, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_focal_against_numpy(gamma: float) -> None:
    logits, target = classes(1)
    p = np.exp(logits.double().numpy())
    p /= p.sum(1, keepdims=True)
    for weights in ((), WEIGHTS):
        expected = []
        for b in range(B):
            total = norm = 0.0
            for y, x in np.argwhere(target[b].numpy() >= 0):
                k = int(target[b, y, x])
                w = weights[k] if weights else 1.0
                total += -w * (1 - p[b, k, y, x]) ** gamma * math.log(p[b, k, y, x])
                norm += w
            expected.append(total / norm)
        task = segmentation(loss="focal", focal_gamma=gamma, class_weights=weights)
        assert torch.allclose(task.loss(logits, target), torch.tensor(expected, dtype=torch.float32), rtol=1e-5)


def test_focal_with_gamma_zero_is_the_cross_entropy() -> None:
    logits, target = classes(2)
    assert torch.allclose(
        segmentation(loss="focal", focal_gamma=0.0).loss(logits, target), segmentation().loss(logits, target)
    )


def test_a_class_per_image_has_the_same_losses() -> None:
    logits, target = torch.randn(6, C), torch.tensor([0, 1, -1, 3, 2, 1])
    weighted = Classification(name="k", channels=C, class_weights=WEIGHTS)
    plain = Classification(name="k", channels=C).loss(logits, target)
    found = weighted.loss(logits, target)
    # of one image alone, torch's weighted mean is the loss itself; a class of weight 0 counts nothing
    expected = torch.where(target == 2, torch.zeros(()), plain)
    assert torch.allclose(found, expected)
    assert found[2] == 0


def depth_maps() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    target = 0.5 + 4 * torch.rand(B, 1, H, W, generator=generator)
    prediction = target + torch.randn(B, 1, H, W, generator=generator)
    target[torch.rand(B, 1, H, W, generator=generator) < 0.3] = 0
    return prediction, target


def berhu(error: np.ndarray) -> np.ndarray:
    c = np.abs(error).max() / 5
    return np.where(np.abs(error) <= c, np.abs(error), (error**2 + c**2) / (2 * c))


def silog(prediction: np.ndarray, target: np.ndarray, focus: float) -> float:
    log = np.where(prediction > _LEAST_DEPTH, np.log(np.maximum(prediction, _LEAST_DEPTH)), 0.0)
    below = math.log(_LEAST_DEPTH) + (prediction - _LEAST_DEPTH) / _LEAST_DEPTH
    d = np.where(prediction > _LEAST_DEPTH, log, below) - np.log(target)
    return float((d**2).mean() - focus * d.mean() ** 2)


@pytest.mark.parametrize("loss", ["l1", "l2", "berhu", "silog"])
def test_losses_of_depth_against_numpy(loss: str) -> None:
    prediction, target = depth_maps()
    assert (prediction < 0).any(), "some predictions lie below the tangent's limit"
    expected = []
    for p, y in zip(prediction.double().numpy(), target.double().numpy(), strict=True):
        p, y = p[y > 0], y[y > 0]
        of = {"l1": np.abs(p - y), "l2": (p - y) ** 2, "berhu": berhu(p - y), "silog": np.array(silog(p, y, 0.7))}
        expected.append(of[loss].mean())
    found = Depth(name="d", loss=loss, silog_lambda=0.7).loss(prediction, target)  # type: ignore[arg-type]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float32), rtol=1e-4)


def test_an_error_of_scale_costs_nothing_with_lambda_one() -> None:
    _, target = depth_maps()
    task = Depth(name="d", loss="silog", silog_lambda=1.0)
    assert torch.allclose(task.loss(3 * target, target), torch.zeros(B), atol=1e-5)
    assert (task.loss(3 * target + 1, target) > 1e-3).all()


def test_the_logarithm_goes_on_smoothly() -> None:
    value = torch.tensor([-1.0, _LEAST_DEPTH - 1e-4, _LEAST_DEPTH, _LEAST_DEPTH + 1e-4, 2.0], requires_grad=True)
    (slope,) = torch.autograd.grad(_log_of(value).sum(), value)
    assert torch.allclose(slope, torch.tensor([10.0, 10.0, 10.0, 10.0, 0.5]), rtol=2e-3)


def test_berhu_of_an_image_does_not_depend_on_the_others() -> None:
    prediction, target = depth_maps()
    task = Depth(name="d", loss="berhu")
    alone = torch.cat([task.loss(p[None], y[None]) for p, y in zip(prediction, target, strict=True)])
    assert torch.allclose(task.loss(prediction, target), alone)


@pytest.mark.parametrize("loss", ["cosine", "l1"])
def test_losses_of_normals_against_numpy(loss: str) -> None:
    generator = torch.Generator().manual_seed(4)
    prediction = torch.randn(B, 3, H, W, generator=generator)
    target = torch.nn.functional.normalize(torch.randn(B, 3, H, W, generator=generator), dim=1)
    target[:, :, 0] = 0
    p, n = prediction.double().numpy(), target.double().numpy()
    unit = p / np.linalg.norm(p, axis=1, keepdims=True)
    of = {"cosine": 1 - (unit * n).sum(1), "l1": np.abs(unit - n).mean(1)}[loss]
    found = Normals(name="n", loss=loss).loss(prediction, target)  # type: ignore[arg-type]
    assert torch.allclose(found, torch.from_numpy(of[:, 1:].mean((1, 2))).float(), atol=1e-5)


KINDS = [
    segmentation(class_weights=WEIGHTS),
    segmentation(loss="focal"),
    segmentation(label_smoothing=0.1),
    *(Depth(name="d", loss=loss) for loss in ("l2", "berhu", "silog")),
    *(Regression(name="r", channels=2, loss=loss) for loss in ("l2", "berhu")),
    Normals(name="n", loss="l1"),
]


@pytest.mark.parametrize("task", KINDS, ids=str)
def test_missing_labels_count_nothing_and_gradients_are_finite(task: Any) -> None:
    generator = torch.Generator().manual_seed(5)
    target = task.example(B, (H, W), generator)
    target[0] = task.blank(target[0])
    prediction = torch.randn(B, task.channels, H, W, generator=generator, requires_grad=True)
    loss = task.loss(prediction, target)
    assert loss[0] == 0
    assert (loss[1:] > 0).all()
    (gradient,) = torch.autograd.grad(loss.sum(), prediction)
    assert gradient.isfinite().all()
    gone = ~task.valid(target).expand_as(gradient)
    assert (gradient[gone] == 0).all()
    soft = task.soft_loss(prediction, task.to_label_space(torch.randn(B, task.channels, H, W)).abs())
    assert soft.shape == (B, 1, H, W)
    assert soft.isfinite().all()


@pytest.mark.parametrize("task", KINDS, ids=str)
def test_losses_read_no_value(task: Any) -> None:
    """On the meta device a host sync or a shape that depends on data raises."""
    target = task.example(B, (H, W), torch.Generator().manual_seed(6)).to("meta")
    prediction = torch.empty(B, task.channels, H, W, device="meta", requires_grad=True)
    assert task.loss(prediction, target).shape == (B,)


WRONG = {
    "expected 4 numbers from 0": {"class_weights": (1.0, 2.0)},
    "one for each class": {"class_weights": (1.0, 2.0, -1.0, 1.0)},
    "belongs to loss": {"loss": "focal", "label_smoothing": 0.1},
    "must be < 1": {"label_smoothing": 1.0},
    "must be > 0": {"loss_scale": 0.0},
}


@pytest.mark.parametrize("message", WRONG)
def test_options_that_do_not_fit(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        segmentation(**WRONG[message])


def test_the_scale_multiplies_what_a_step_adds_up() -> None:
    logits, target = classes()
    assert torch.equal(
        segmentation(loss_scale=3.0).scaled_loss(logits, target), 3 * segmentation().loss(logits, target)
    )
