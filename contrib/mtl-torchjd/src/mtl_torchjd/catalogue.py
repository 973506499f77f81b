"""What torchjd has, by name: new classes of a newer torchjd are found without a change here."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import attrs
import torch
import torchjd.aggregation
import torchjd.scalarization
from torch import Tensor
from torchjd import Stateful

from mtl_core import MtlError, nearest

_Setting = bool | int | float | str | tuple[float, ...]
_SUFFIX = "Weighting"
_GIVEN = ("shape", "n_tasks")
"""Settings that are the number of tasks, which the experiment knows."""
_REFUSED = {
    "ExcessMTL": "keeps statistics of every entry of the gradients, which are not known where they meet",
    "MoDo": "needs the gradients of two independent batches in a step",
    "SDMGrad": "needs the gradients of two independent batches in a step",
    "NashMTL": 'has no form on the Gramian; use plugin "nash" of mtl-weighting',
}
LEADS = ("PCD",)
"""Classes whose first row is the primary task's."""
_OF_THE_LED = ("tau",)
"""Their settings that torchjd takes for every task but the primary one."""
REMEMBERED = ("GradVac", "PCD", "CRMOGM", "UW", "IMTLL", "DWA", "FAMO")
"""Classes with a state that this distribution saves and restores."""
_DEFAULTS: Mapping[str, Mapping[str, _Setting]] = {"CAGrad": {"norm_eps": 1e-8}}
"""Settings that differ from torchjd's where an experiment gives none.

CAGrad answers with weights of 0 where the smallest gradient in the convex hull is below ``norm_eps``. torchjd's 1e-4
stops the encoder as soon as one branch is 10⁴ times smaller than the others; its solver is still right at 1e-7.
"""


def _public(module: Any, base: type) -> dict[str, type]:
    """Its exported classes below ``base`` that can be made."""
    found = {}
    for name in module.__all__:
        cls = getattr(module, name)
        if issubclass(cls, base) and cls is not base and not inspect.isabstract(cls):
            found[name] = cls
    return found


def weightings() -> dict[str, type]:
    """Name without suffix → class that makes weights of a Gramian."""
    found = _public(torchjd.aggregation, torchjd.aggregation.Weighting)
    return {name.removesuffix(_SUFFIX): made for name, made in found.items()}


def elementwise() -> dict[str, type]:
    """Aggregators that need the gradients themselves."""
    wrappers = ("WeightedAggregator", "GramianWeightedAggregator")
    found = _public(torchjd.aggregation, torchjd.aggregation.Aggregator)
    return {name: made for name, made in found.items() if name not in weightings() and name not in wrappers}


def aggregators() -> dict[str, type]:
    return _usable({**weightings(), **elementwise()})


def scalarizers() -> dict[str, type]:
    return _usable(_public(torchjd.scalarization, torchjd.scalarization.Scalarizer))


def _usable(classes: Mapping[str, type]) -> dict[str, type]:
    """Those that can be offered: neither refused nor with a state that is not saved here."""
    kept = {}
    for name, cls in sorted(classes.items()):
        if name not in _REFUSED and (name in REMEMBERED or _stateless(cls)):
            kept[name] = cls
    return kept


def _stateless(cls: type) -> bool:
    return not issubclass(cls, Stateful)


def why_not(name: str, classes: Mapping[str, type]) -> str:
    """The message for a name that cannot be used."""
    if name in _REFUSED:
        return f"{name} {_REFUSED[name]}"
    for kind, known in {"aggregator": aggregators(), "scalarizer": scalarizers()}.items():
        if name in known and not set(classes) <= set(known):
            return f'{name} is {"an" if kind == "aggregator" else "a"} {kind}: write {kind} = "{name}"'
    if name in weightings() or hasattr(torchjd.scalarization, name):
        return f"{name} keeps a state that mtl-torchjd does not know how to save"
    return f'torchjd has no "{name}"{nearest(name, classes)}; expected one of {", ".join(classes)}'


@attrs.frozen
class Recipe:
    """A class of torchjd with its settings, for any subset of the K tasks.

    :param name: without suffix
    :param cls: of torchjd
    :param settings: of its constructor; a list has a number for each of the K tasks
    :param tasks: K
    :param leader: place of the primary task, where the class has one
    """

    name: str
    cls: Any
    settings: Mapping[str, _Setting]
    tasks: int
    leader: int | None = None

    def make(self, rows: Tensor, like: Tensor | None = None) -> Any:
        """An instance for the tasks ``rows`` (m,).

        :param like: the argument of the instance; settings that are lists get its precision and device
        :raises MtlError: torchjd refuses the settings, or a package is missing; the message is torchjd's
        """
        given: dict[str, Any] = {key: len(rows) for key in _GIVEN if key in _parameters(self.cls)}
        given |= _DEFAULTS.get(self.name, {})
        try:
            given |= {key: self._value(key, rows, like) for key in self.settings}
            return self.cls(**given)
        except (ImportError, ValueError, TypeError) as error:
            raise MtlError(f"{self.name} of torchjd: {error}") from error

    def _value(self, key: str, rows: Tensor, like: Tensor | None) -> Any:
        value = self.settings[key]
        if key == "weighting":
            inner = {name: cls for name, cls in _usable(weightings()).items() if _stateless(cls)}
            if value not in inner:
                raise ValueError(f"weighting: {why_not(str(value), inner)}")
            return inner[str(value)]()
        if not isinstance(value, tuple):
            return value
        if len(value) != self.tasks:
            raise ValueError(f"{key}: {len(value)} numbers; expected one for each of the {self.tasks} tasks")
        if key in _OF_THE_LED:
            rows = rows[rows != self.leader]
        numbers = torch.tensor(value, dtype=torch.float64)[rows]
        return numbers if like is None else numbers.to(like)


def check_enough(name: str, recipe: Recipe) -> None:
    """Find before the first step that an aggregator needs more tasks: torchjd checks that when it is called.

    :param name: of the plugin, for the message
    :raises MtlError: torchjd refuses K orthogonal gradients
    """
    every = torch.arange(recipe.tasks)
    gradients = torch.eye(recipe.tasks, dtype=torch.float64)
    try:
        with torch.random.fork_rng(devices=[]):
            recipe.make(every, gradients)(gradients)
    except (ValueError, RuntimeError) as error:
        raise MtlError(
            f"{name}: {recipe.name} of torchjd, with {recipe.tasks} task(s): {error}"
            " Use another aggregator, or add tasks"
        ) from error


def _parameters(cls: Any) -> list[str]:
    return [name for name in inspect.signature(cls).parameters if name != "self"]


def choices(cls: Any) -> list[str]:
    """Settings that an experiment file can give."""
    return [name for name in _parameters(cls) if name not in (*_GIVEN, "projector", "f", "min_losses")]
