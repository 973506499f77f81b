"""Tasks with distributions for labels: losses, invalid labels, metrics, and the way into a checkpoint and back."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch.nn import functional as F

from mtl_core import options_of
from mtl_pseudo.tasks import SoftClassification, TokenLabels

SOFT = SoftClassification(name="soft", channels=4)
TOKENS = TokenLabels(name="tokens", channels=6, top=2, stride=1)


def token_label() -> torch.Tensor:
    """One image of 2 × 3: class 1 with 0.75 and class 4 with 0.25, but for one invalid pixel."""
    label = torch.empty(1, 4, 2, 3)
    label[:, 0], label[:, 1], label[:, 2], label[:, 3] = 1.0, 4.0, 0.75, 0.25
    label[:, :, 0, 0] = -1
    return label


def test_cross_entropy_with_a_distribution() -> None:
    logits = torch.randn(3, 4)
    target = torch.rand(3, 4).softmax(1)
    expected = -(target * logits.log_softmax(1)).sum(1)
    torch.testing.assert_close(SOFT.loss(logits, target), expected)
    assert SOFT.loss(logits, target).shape == (3,)


def test_the_loss_is_least_where_the_prediction_is_the_distribution() -> None:
    target = torch.tensor([[0.5, 0.25, 0.125, 0.125]])
    at = SOFT.loss(target.log(), target)
    assert all(SOFT.loss(target.log() + 0.1 * torch.randn(1, 4), target) > at for _ in range(10))


def test_a_missing_distribution_does_not_count() -> None:
    target = torch.stack((torch.full((4,), torch.nan), torch.eye(4)[2]))
    logits = torch.randn(2, 4, requires_grad=True)
    loss = SOFT.loss(logits, target)
    loss.sum().backward()
    assert loss[0] == 0
    assert logits.grad is not None
    assert (logits.grad[0] == 0).all()
    assert SOFT.encode(target).isfinite().all()
    assert SOFT.valid(target).tolist() == [[False], [True]]
    assert not SOFT.valid(SOFT.blank(target)).any()


def test_agreement_of_distributions() -> None:
    metric = SOFT.metrics()
    target = torch.eye(4)[[0, 1, 2, 3]]
    target[3] = torch.nan
    metric.update(torch.eye(4)[[0, 1, 3, 3]], target)
    assert metric.compute()["top1"] == pytest.approx(200 / 3)


def test_token_labels_are_cross_entropy_with_the_kept_classes() -> None:
    logits = torch.randn(1, 6, 2, 3)
    loss = TOKENS.pixel_loss(logits, token_label())
    expected = -(0.75 * logits.log_softmax(1)[:, 1] + 0.25 * logits.log_softmax(1)[:, 4])
    assert loss.shape == (1, 1, 2, 3)
    torch.testing.assert_close(loss[0, 0, 1], expected[0, 1])
    assert loss.isfinite().all()
    torch.testing.assert_close(TOKENS.loss(logits, token_label()), expected.flatten()[1:].mean()[None])


def test_token_labels_in_label_space_and_back() -> None:
    label = token_label()
    encoded = TOKENS.encode(label)
    assert encoded.shape == (1, 6, 2, 3)
    torch.testing.assert_close(encoded.sum(1), torch.ones(1, 2, 3))
    torch.testing.assert_close(TOKENS.decode(encoded.clamp(min=1e-9).log())[:, :, 1], label[:, :, 1])
    torch.testing.assert_close(
        TOKENS.soft_loss(torch.zeros(1, 6, 2, 3), encoded), torch.full((1, 1, 2, 3), torch.tensor(6.0).log().item())
    )


def test_the_loss_looks_at_one_pixel_in_a_square() -> None:
    task = attrs.evolve(TOKENS, stride=8)
    label = torch.full((1, 4, 16, 24), -1.0)
    label[..., 4::8, 4::8] = torch.tensor([1.0, 4.0, 0.5, 0.5])[None, :, None, None]
    logits = torch.randn(1, 6, 16, 24, requires_grad=True)
    task.loss(logits, label).sum().backward()
    assert logits.grad is not None
    touched = logits.grad.abs().sum((0, 1)) > 0
    assert touched.sum() == 6
    assert touched[4::8, 4::8].all()
    assert task.loss(torch.randn(1, 6, 4, 4), torch.zeros(1, 4, 4, 4)).isfinite().all()  # an image below the stride


def test_a_blank_token_label_is_invalid() -> None:
    assert not TOKENS.valid(TOKENS.blank(token_label())).any()
    assert TOKENS.loss(torch.randn(1, 6, 2, 3), TOKENS.blank(token_label())) == 0


def test_agreement_of_tokens() -> None:
    metric = TOKENS.metrics()
    logits = torch.zeros(1, 6, 2, 3)
    logits[:, 1, 1] = 1
    metric.update(logits, token_label())
    assert metric.compute()["top1"] == pytest.approx(60)


@pytest.mark.parametrize("task", [SOFT, TOKENS, attrs.evolve(SOFT, classes=("a", "b", "c", "d"))])
def test_a_task_is_made_again_from_plain_values(task: SoftClassification) -> None:
    plain = {key: list(v) if isinstance(v, tuple) else v for key, v in options_of(task).items()}
    assert type(task)(**{key: tuple(v) if isinstance(v, list) else v for key, v in plain.items()}) == task


def test_half_precision_predictions_are_compared() -> None:
    loss = SOFT.loss(torch.randn(2, 4).bfloat16(), F.one_hot(torch.tensor([0, 1]), 4).float())
    assert loss.isfinite().all()
