"""Semantic segmentation: files, pictures, details."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtl_core.tasks.metrics import ConfusionMetrics, Top1
from mtl_core.tasks.pictures import palette
from mtl_core.tasks.segmentation import Segmentation


@pytest.mark.parametrize(("classes", "kind"), [(256, np.uint8), (257, np.uint16)])
def test_the_file_has_room_for_every_class(classes: int, kind: type) -> None:
    task = Segmentation(name="s", channels=classes)
    label = torch.tensor([[0, classes - 1]])
    found = task.export(label)
    assert found.dtype == kind
    assert found.tolist() == label.tolist()
    assert task.file_ending == ".png"


def test_the_picture_has_the_colours_of_the_classes() -> None:
    task = Segmentation(name="s", channels=3)
    found = task.picture(torch.tensor([[0, 2], [-1, 1]]), (0, 1))
    assert np.array_equal(found, palette(3)[[[0, 2], [0, 1]]])


def test_details_are_named_by_class_and_only_of_its_own_metric() -> None:
    named = Segmentation(name="s", channels=2, classes=("wall", "floor"))
    metric = ConfusionMetrics(2)
    metric.update(torch.tensor([[[[9.0, 9.0]], [[0.0, 0.0]]]]), torch.tensor([[[0, 0]]]))
    assert named.details(metric)["iou/wall"] == 100
    assert set(Segmentation(name="s", channels=2).details(metric)) == {"iou/0", "iou/1"}
    assert named.details(Top1()) == {}
