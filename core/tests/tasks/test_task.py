"""What every kind of task inherits: masked means, checks of a label's form, random labels, directions."""

from __future__ import annotations

import math
import re
from pathlib import Path

import attrs
import pytest
import torch

from mtl_core.tasks.task import NAME, Task, class_problem, masked_mean, setting
from mtl_core.testing import EXAMPLES

SIZE = (4, 6)
every_kind = pytest.mark.parametrize("name", EXAMPLES)


def test_a_masked_mean_ignores_what_is_not_valid_whatever_it_holds() -> None:
    values = torch.tensor([[1.0, math.nan, 3.0], [math.inf, 5.0, 7.0], [1.0, 2.0, math.nan]], requires_grad=True)
    valid = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])
    found = masked_mean(values, valid)
    assert found.tolist() == [2, 5, 0]
    found.sum().backward()
    assert values.grad is not None
    assert values.grad.isfinite().all()


@pytest.mark.parametrize("name", ["a/b", "", "-x", "a b", "../x", 3])
def test_a_name_is_part_of_file_names(name: object) -> None:
    with pytest.raises(ValueError, match="a task's name is part of file names"):
        Task(name=name, channels=1)  # type: ignore[arg-type]


def test_names_that_files_take(tmp_path: Path) -> None:
    for name in ("depth", "surface.normals", "a+b-c_1"):
        assert re.fullmatch(NAME, Task(name=name, channels=1).name)
        (tmp_path / f"{name}.png").touch()


@every_kind
def test_random_labels_pass_the_checks_of_their_kind(name: str) -> None:
    task = EXAMPLES[name]
    labels = task.example(3, SIZE, torch.Generator().manual_seed(0))
    for label in labels:
        assert task.problems(label, SIZE) == []
        assert task.range_problem(label) is None
    if task.dense:
        share = 1 - task.valid(labels).float().mean()
        assert 0 < share < 0.6


@every_kind
def test_a_blank_label_is_valid_nowhere_and_costs_nothing(name: str) -> None:
    task = EXAMPLES[name]
    label = task.blank_label(SIZE)
    assert task.problems(label, SIZE) == []
    assert not task.valid(label[None]).any()
    prediction = torch.randn(1, task.channels, *(SIZE if task.dense else ()))
    assert task.loss(prediction, label[None]).tolist() == [0]


FORMS = {
    "a list": (lambda label: label.tolist(), "found a list, expected a torch tensor"),
    "no channel": (lambda label: label[0], "add the channel: label[None]"),
    "a batch": (lambda label: label[None], "remove the first dimension: label[0]"),
    "channels last": (lambda label: label.permute(1, 2, 0), "put the channels first: label.permute(2, 0, 1)"),
    "smaller": (lambda label: label[:, ::2, ::2], "resize the label to the image's 4 × 6 pixels"),
    "whole numbers": (lambda label: label.long(), "convert it with .to(torch.float32)"),
}


@pytest.mark.parametrize("case", FORMS)
def test_a_label_of_another_form_says_what_to_do(case: str) -> None:
    change, remedy = FORMS[case]
    task = EXAMPLES["depth"]
    (problem,) = task.form_problems(change(torch.ones(1, *SIZE)), SIZE)
    assert remedy in problem


@pytest.mark.parametrize(
    ("highest", "hint"), [(4, None), (5, "there are 5 classes: correct it"), (255, "write −1, not 255")]
)
def test_a_class_that_does_not_exist(highest: int, hint: str | None) -> None:
    found = class_problem(torch.tensor([0, highest]), 5)
    assert found is None if hint is None else hint in (found or "")
    assert class_problem(torch.tensor([], dtype=torch.long), 5) is None


def test_the_main_metric_and_its_direction() -> None:
    task = EXAMPLES["depth"]
    assert (task.main_metric, task.main_is_higher) == ("abs_err", False)
    chosen = attrs.evolve(task, headline="delta1", metrics=("rmse",))
    assert (chosen.main_metric, chosen.main_is_higher) == ("delta1", True)
    assert [chosen.keeps(metric) for metric in ("rmse", "delta1", "abs_err")] == [True, True, False]
    assert all(task.keeps(metric) for metric in ("rmse", "abs_err"))


def test_a_setting_says_that_it_is_one() -> None:
    assert setting("what it is") == {"help": "what it is", "setting": True}
    fields = {a.alias for a in attrs.fields(Task) if a.metadata.get("setting")}
    assert fields == {"loss_scale", "metrics", "headline"}


def test_a_kind_that_states_no_loss_cannot_be_used() -> None:
    bare = Task(name="bare", channels=1)
    for ask in (bare.valid, lambda t: bare.pixel_loss(t, t), lambda t: bare.soft_loss(t, t)):
        with pytest.raises(NotImplementedError):
            ask(torch.zeros(1, 1, 2, 2))
    with pytest.raises(NotImplementedError):
        bare.metrics()
