"""Torch's optimizers by name, and their options. Imports torch where one is named."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mtl_core.errors import nearest
from mtl_core.options.type_names import describe_value

if TYPE_CHECKING:
    from torch.optim import Optimizer

SHORT = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}
"""Names without the module; torch's own class."""
_PREFIX = "torch.optim."

_SETTINGS = {"lr": "learning_rate", "weight_decay": "weight_decay"}
"""Options that are settings of their own."""
_NOT_OFFERED = {"params", "fused", "foreach", "capturable", "differentiable", "maximize"}
_UNUSABLE = {
    "LBFGS": "calls the loss several times in a step",
    "SparseAdam": "needs sparse gradients, which no network here has",
}


def class_of(name: str) -> type[Optimizer]:
    """The class behind ``"adam"``, ``"adamw"``, ``"sgd"`` or ``"torch.optim.NAME"``.

    :raises ValueError: there is none, or it cannot train a network here; the message says which there are
    """
    if name in SHORT:
        return _found(SHORT[name])
    if not name.startswith(_PREFIX):
        full = _PREFIX + name
        guess = f'; did you mean "{full}"?' if name in _usable() else nearest(name, list(SHORT))
        raise ValueError(f'expected "adam", "adamw", "sgd" or "torch.optim.NAME", found "{name}"{guess}')
    bare = name.removeprefix(_PREFIX)
    if bare in _UNUSABLE:
        raise ValueError(f"{name} {_UNUSABLE[bare]}; use another one")
    if bare not in _usable():
        listed = f" (there are: {', '.join(_usable())})"
        raise ValueError(f"there is no {name}{nearest(bare, _usable()) or listed}")
    return _found(bare)


def _found(bare: str) -> type[Optimizer]:
    import torch

    cls: type[Optimizer] = getattr(torch.optim, bare)
    return cls


def _usable() -> list[str]:
    """The names of torch's optimizers that can train a network here."""
    import torch

    base = torch.optim.Optimizer
    kinds = {name: value for name, value in vars(torch.optim).items() if isinstance(value, type)}
    known = {name for name, kind in kinds.items() if issubclass(kind, base) and kind is not base}
    return sorted(known - _UNUSABLE.keys())


def _option_names(name: str) -> list[str]:
    """The options of an optimizer that an experiment may set in its table."""
    taken = {*_NOT_OFFERED, *_SETTINGS, *({"momentum"} if name == "sgd" else ())}
    return [key for key in inspect.signature(class_of(name)).parameters if key not in taken]


def problems(name: str, given: Mapping[str, Any]) -> list[str]:
    """What is wrong with a table of options, a phrase each."""
    known = _option_names(name)
    settings = _SETTINGS | ({"momentum": "momentum"} if name == "sgd" else {})
    listed = f" (known: {', '.join(known)})" if known else " (it has no further options)"
    wrong = []
    for key, value in given.items():
        if key in settings:
            wrong.append(f"{key} is the setting {settings[key]}; write it there")
        elif key not in known:
            wrong.append(f"{name} has no option {key}{nearest(key, known) or listed}")
        elif isinstance(value, Mapping):
            wrong.append(f"{key}: expected a value, found {describe_value(value)}")
    return wrong


def values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options as torch takes them: a list is a tuple, "none" is None."""
    made = {}
    for key, value in given.items():
        plain = None if value == "none" else value
        made[key] = tuple(plain) if isinstance(plain, list) else plain
    return made
