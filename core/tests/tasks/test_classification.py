"""A class per image."""

from __future__ import annotations

import torch

from mtl_core.tasks.classification import Classification

TASK = Classification(name="scene", channels=3)


def test_a_label_is_one_number() -> None:
    assert TASK.label_shape((4, 6)) == ()
    assert TASK.blank_label((4, 6)).tolist() == -1
    assert TASK.problems(torch.tensor(2), (4, 6)) == []
    assert "found class 3" in TASK.problems(torch.tensor(3), (4, 6))[0]
    assert "found shape (1,), expected ()" in TASK.problems(torch.tensor([1]), (4, 6))[0]


def test_the_loss_of_an_image_is_its_own() -> None:
    logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]])
    losses = TASK.loss(logits, torch.tensor([0, 0, -1]))
    assert losses.shape == (3,)
    assert losses[0] < 0.01 < losses[1]
    assert losses[2] == 0


def test_random_labels_are_of_all_classes_and_without_pixels() -> None:
    made = TASK.example(60, (4, 6), torch.Generator().manual_seed(0))
    assert made.shape == (60,)
    assert set(made.tolist()) == {0, 1, 2}
