"""Losses of the five tasks, against the formulas of the published code."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_core import BinaryEdges, Normals, Segmentation, Tasks, options_of
from mtl_pascal_context import _PUBLISHED_WEIGHTS, PascalContext
from mtl_pascal_context.tasks import Boundaries, Saliency, WeightedNormals, WeightedSegmentation


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def chosen(**options: object) -> Tasks:
    return PascalContext(root="data", **options).chosen_tasks()  # type: ignore[arg-type]


def test_kinds_and_channels() -> None:
    tasks = chosen()
    assert [(t.name, t.channels) for t in tasks] == [
        ("segmentation", 21), ("parts", 7), ("normals", 3), ("saliency", 2), ("edges", 1),
    ]  # fmt: skip
    kinds = {"segmentation": Segmentation, "parts": Segmentation, "normals": Normals, "edges": BinaryEdges}
    assert all(isinstance(tasks[name], kind) for name, kind in kinds.items())
    assert isinstance(tasks["saliency"], Segmentation)
    assert {t.name: t.headline for t in tasks} == {
        "segmentation": "miou", "parts": "miou", "normals": "mean_angle", "saliency": "miou", "edges": "ods_f",
    }  # fmt: skip


def test_published_weights() -> None:
    assert {t.name: t.weight for t in chosen()} == _PUBLISHED_WEIGHTS  # type: ignore[attr-defined]
    assert {t.weight for t in chosen(loss_weights="none")} == {1.0}  # type: ignore[attr-defined]


def batch(task: str) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    classes = torch.randint(-1, 2, (2, 5, 6), generator=draw)
    if task == "normals":
        return normal(2, 3, 5, 6), F.normalize(normal(2, 3, 5, 6, seed=2), dim=1) * (classes >= 0).unsqueeze(1)
    if task == "edges":
        return normal(2, 1, 5, 6), torch.where(classes >= 0, classes.float(), torch.nan).unsqueeze(1)
    return normal(2, {"segmentation": 21, "parts": 7, "saliency": 2}[task], 5, 6), classes


@pytest.mark.parametrize("name", _PUBLISHED_WEIGHTS)
def test_the_weight_multiplies_the_loss_and_nothing_else(name: str) -> None:
    plain = chosen(loss_weights="none")[name]
    weighted = chosen()[name]
    prediction, target = batch(name)
    expected = _PUBLISHED_WEIGHTS[name] * plain.loss(prediction, target)
    assert torch.allclose(weighted.loss(prediction, target), expected)
    assert weighted.loss(prediction, target).shape == (2,)
    assert torch.equal(weighted.pixel_loss(prediction, target), plain.pixel_loss(prediction, target))
    soft = plain.encode(target)
    assert torch.equal(weighted.soft_loss(prediction, soft), plain.soft_loss(prediction, soft))


@pytest.mark.parametrize("name", _PUBLISHED_WEIGHTS)
def test_a_blank_label_costs_nothing(name: str) -> None:
    task = chosen()[name]
    prediction, target = batch(name)
    prediction.requires_grad_()
    blank = torch.stack((target[0], task.blank(target[1])))
    losses = task.loss(prediction, blank)
    losses.sum().backward()
    assert losses[1] == 0
    assert losses.isfinite().all()
    assert prediction.grad is not None
    assert (prediction.grad[1] == 0).all()


def test_saliency_is_balanced_binary_cross_entropy() -> None:
    """The one-channel form of HED and MTI-Net, on the difference of the two logits."""
    prediction = normal(2, 2, 5, 6)
    target = batch("saliency")[1]
    valid = target >= 0
    logit = (prediction[:, 1] - prediction[:, 0])[valid]
    salient = target[valid].float()
    share = 1 - salient.mean()
    weight = share * salient + (1 - share) * (1 - salient)
    expected = (weight * F.binary_cross_entropy_with_logits(logit, salient, reduction="none")).sum()
    found = Saliency(name="saliency").loss(prediction, target) * valid.flatten(1).sum(1)
    assert torch.allclose(found.sum(), expected)


def test_edges_have_the_published_weight_of_positives() -> None:
    prediction, target = batch("edges")
    valid = target.isfinite()
    true = target[valid]
    entropy = F.binary_cross_entropy_with_logits(prediction[valid], true, reduction="none")
    expected = ((0.95 * true + 0.05 * (1 - true)) * entropy).sum()
    found = Boundaries(name="edges").loss(prediction, target) * valid.flatten(1).sum(1)
    assert torch.allclose(found.sum(), expected)


def test_normals_by_l1_on_unit_vectors() -> None:
    prediction, target = batch("normals")
    valid = (target.norm(dim=1) > 0.5)[:, None].expand_as(target)
    difference = (prediction / prediction.norm(dim=1, keepdim=True) - target).abs()
    expected = [difference[k][valid[k]].mean() for k in range(2)]
    assert torch.allclose(WeightedNormals(name="normals").loss(prediction, target), torch.stack(expected))
    cosine = WeightedNormals(name="normals", criterion="cosine")
    assert torch.equal(cosine.loss(prediction, target), Normals(name="normals").loss(prediction, target))


def test_half_precision_is_computed_in_float32() -> None:
    prediction, target = batch("normals")
    found = WeightedNormals(name="normals").pixel_loss(prediction.bfloat16(), target)
    assert found.dtype == torch.float32


def test_tasks_are_made_of_plain_values() -> None:
    """So that a checkpoint, which holds these alone, gives the same tasks again."""
    tasks = chosen(loss_weights="none", normals_loss="cosine", edge_metric="exact", edge_tolerance=0.011)
    for task in tasks:
        values = options_of(task)
        assert json.loads(json.dumps(values)) == {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        assert type(task)(**values) == task


def test_classes_are_named() -> None:
    task = chosen()["segmentation"]
    assert isinstance(task, WeightedSegmentation)
    assert (task.classes[15], task.classes[20]) == ("person", "tvmonitor")
