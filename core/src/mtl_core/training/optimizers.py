"""Optimizers by name, learning rates by parts of the network, steps that are skipped by optimizers without a kernel
for that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from mtl_core.errors import MtlError, nearest
from mtl_core.experiment import Experiment
from mtl_core.options.torch_optimizers import class_of, values

_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
"""Optimizers whose fused kernels take a ``found_inf`` tensor on every device."""

_Groups = list[dict[str, Any]]


def build_optimizer(experiment: Experiment, groups: _Groups) -> Optimizer:
    """The experiment's optimizer over parameter groups.

    :raises MtlError: torch refuses its options or these parameters
    """
    cls = class_of(experiment.optimizer)
    options = {"lr": experiment.learning_rate} | values(experiment.optimizer_options)
    if _takes(cls, "weight_decay"):
        options["weight_decay"] = experiment.weight_decay
    elif experiment.weight_decay:
        raise MtlError(f"weight_decay: {experiment.optimizer} has none; leave it out or choose another optimizer")
    if experiment.optimizer == "sgd":
        options["momentum"] = experiment.momentum
    made: Callable[..., Optimizer] = cls if cls in _FUSED else _skipping(cls)
    if cls in _FUSED:
        options["fused"] = True
    try:
        return made(groups, **options)
    except (ValueError, TypeError, RuntimeError) as error:
        given = ", ".join(f"{key} = {value}" for key, value in experiment.optimizer_options.items())
        named = f"{experiment.optimizer} with {given}" if given else experiment.optimizer
        raise MtlError(f"optimizer: torch refuses {named}: {error}") from error


def _takes(cls: type[Optimizer], option: str) -> bool:
    return option in inspect.signature(cls).parameters


def _skipping(cls: type[Optimizer]) -> type[Optimizer]:
    """The optimizer, but a step changes nothing where ``found_inf`` is not zero; asking waits for the device."""

    # a subclass and no wrapper: schedules and Fabric want a torch Optimizer with its param_groups
    class Skipping(cls):  # type: ignore[valid-type, misc]
        def step(self, closure: Callable[[], float] | None = None) -> float | None:
            # taken away: some refuse to run where it is set
            found: Tensor | None = self.__dict__.pop("found_inf", None)
            if found is not None and bool(found):
                return None
            done: float | None = super().step(closure)
            return done

    Skipping.__name__ = Skipping.__qualname__ = cls.__name__
    return Skipping


def _names_of(module: nn.Module) -> dict[str, Parameter]:
    """Parameters of a training step by the names that settings use: ``backbone.…``, ``heads.TASK.…``,
    ``plugins.NAME.…``.
    """
    return {name.removeprefix("network."): parameter for name, parameter in module.named_parameters()}


def split_by_rates(module: nn.Module, rest: list[Parameter], rates: Mapping[str, float], rate: float) -> _Groups:
    """The main group taken apart: what no prefix names first, then a group for each factor.

    :param module: the training step
    :param rest: parameters that no plugin has in a group of its own
    :param rates: prefix of parameters' names → factor of the learning rate; the longest prefix that fits counts
    :param rate: the experiment's learning rate
    :raises MtlError: no parameter begins with a prefix
    """
    if not rates:
        return [{"params": rest}]
    known = _names_of(module)
    _check_prefixes(rates, known)
    wanted = {id(parameter) for parameter in rest}
    groups: dict[str, list[Parameter]] = {"": [], **{prefix: [] for prefix in rates}}
    for name, parameter in known.items():
        if id(parameter) in wanted:
            groups[_longest(name, rates)].append(parameter)
    main = {"params": groups.pop("")}
    return [main, *({"params": group, "lr": rate * rates[prefix]} for prefix, group in groups.items() if group)]


def _longest(name: str, prefixes: Mapping[str, float]) -> str:
    fitting = [prefix for prefix in prefixes if _begins(name, prefix)]
    return max(fitting, key=len, default="")


def _begins(name: str, prefix: str) -> bool:
    """Whether a prefix names a parameter or a part that it is in: ``heads.a`` is no prefix of ``heads.ab.weight``."""
    return name == prefix or name.startswith(f"{prefix}.")


def _check_prefixes(rates: Mapping[str, float], known: Mapping[str, Parameter]) -> None:
    for prefix in rates:
        if not any(_begins(name, prefix) for name in known):
            depth = prefix.count(".") + 1
            parts = sorted({".".join(name.split(".")[:depth]) for name in known})
            some = f" (there are: {', '.join(parts[:12])}{' …' if len(parts) > 12 else ''})"
            raise MtlError(f'rates: no parameter\'s name begins with "{prefix}"{nearest(prefix, parts) or some}')
