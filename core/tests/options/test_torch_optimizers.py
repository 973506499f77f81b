"""Torch's optimizers by name, and which of their options an experiment may set."""

from __future__ import annotations

import re

import pytest
import torch

from mtl_core.options.torch_optimizers import _UNUSABLE, _option_names, _usable, class_of, problems, values


def test_short_names_and_torchs_own() -> None:
    assert class_of("adamw") is class_of("torch.optim.AdamW") is torch.optim.AdamW
    assert class_of("sgd") is torch.optim.SGD


WRONG = {
    "adamm": 'expected "adam", "adamw", "sgd" or "torch.optim.NAME", found "adamm"; did you mean "adam"?',
    "RAdam": 'found "RAdam"; did you mean "torch.optim.RAdam"?',
    "torch.optim.Adagard": 'there is no torch.optim.Adagard; did you mean "Adagrad"?',
    "torch.optim.xyz": "there is no torch.optim.xyz (there are: ",
    "torch.optim.Optimizer": "there is no torch.optim.Optimizer",
    "torch.optim.lr_scheduler": "there is no torch.optim.lr_scheduler",
    "torch.optim.SparseAdam": "torch.optim.SparseAdam needs sparse gradients",
}


@pytest.mark.parametrize("name", WRONG)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(WRONG[name])):
        class_of(name)


def test_what_is_offered_can_train_and_is_torchs() -> None:
    assert {"Adam", "AdamW", "SGD", "RMSprop"} <= set(_usable())
    assert not set(_usable()) & _UNUSABLE.keys()
    assert all(issubclass(class_of(f"torch.optim.{name}"), torch.optim.Optimizer) for name in _usable())


def test_settings_of_their_own_are_no_options() -> None:
    assert {"lr", "weight_decay", "params", "fused", "foreach"}.isdisjoint(_option_names("adam"))
    assert "momentum" not in _option_names("sgd")
    assert "momentum" in _option_names("torch.optim.SGD"), "the setting momentum is of the short name alone"


@pytest.mark.parametrize(
    ("name", "given", "problem"),
    [
        ("adam", {"weight_decay": 0.1}, "weight_decay is the setting weight_decay; write it there"),
        ("sgd", {"momentum": 0.9}, "momentum is the setting momentum; write it there"),
        ("adam", {"amsgra": True}, 'adam has no option amsgra; did you mean "amsgrad"?'),
        ("adam", {"betas": {"a": 1}}, "betas: expected a value, found {'a': 1} (table)"),
    ],
)
def test_a_wrong_option_is_a_phrase(name: str, given: dict[str, object], problem: str) -> None:
    assert problems(name, given) == [problem]


def test_values_as_torch_takes_them() -> None:
    assert values({"betas": [0.8, 0.9], "maximum": "none", "eps": 1e-3}) == {
        "betas": (0.8, 0.9), "maximum": None, "eps": 1e-3,
    }  # fmt: skip
    assert problems("adam", {"betas": [0.8, 0.9]}) == []
