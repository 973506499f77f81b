"""torchjd as a plugin: one method by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs
import torch
from attrs import field, validators
from torch import Tensor, nn

from mtl_core import About, EncoderGradients, LookAhead, MtlError, Shaped, Step, Tasks, help, hookimpl, nearest, plugin
from mtl_torchjd.catalogue import (
    LEADS,
    REMEMBERED,
    Recipe,
    aggregators,
    check_enough,
    choices,
    elementwise,
    scalarizers,
    weightings,
    why_not,
)
from mtl_torchjd.elementwise import Elementwise
from mtl_torchjd.famo import Famo
from mtl_torchjd.graddrop import BatchGradDrop
from mtl_torchjd.heads import LossWeights
from mtl_torchjd.min_norm import MinNorm
from mtl_torchjd.pcd import SquareNorms
from mtl_torchjd.pcgrad import Projections
from mtl_torchjd.scalarizers import RollingAverages, Scalarized
from mtl_torchjd.stch import NadirSTCH
from mtl_torchjd.weightings import GramianWeights

_WEIGHTS = {"PCD": SquareNorms, "PCGrad": Projections}
_SCALARIZED = {"DWA": RollingAverages, "FAMO": Famo}
_MORE_HOOKS = {"FAMO": ("before_step", "after_step"), "DWA": ("after_epoch",), "STCH": ("after_epoch",)}
_FRANK_WOLFE = ("epsilon", "max_iters")


def _is_aggregator(instance: Any, option: attrs.Attribute[Any], name: str | None) -> None:
    if name is not None and name not in aggregators():
        raise ValueError(why_not(name, aggregators()))


def _is_scalarizer(instance: Any, option: attrs.Attribute[Any], name: str | None) -> None:
    if name is not None and name not in scalarizers():
        raise ValueError(why_not(name, scalarizers()))
    if (name is None) == (instance.aggregator is None):
        raise ValueError("expected either an aggregator or a scalarizer; name the plugin twice to have both")


def _are_settings(instance: Any, option: attrs.Attribute[Any], settings: Mapping[str, Any]) -> None:
    name = instance.aggregator or instance.scalarizer
    classes = aggregators() if instance.scalarizer is None else scalarizers()
    known = choices(classes[name])
    for key in settings:
        if key not in known:
            raise ValueError(
                f'{name} has no setting "{key}"{nearest(key, known)} (it has: {", ".join(known) or "none"})'
            )


def _leads(instance: Any, option: attrs.Attribute[Any], name: str | None) -> None:
    if name is not None and instance.aggregator not in LEADS:
        raise ValueError(f"only {', '.join(LEADS)} has a primary task")


def _solves(instance: Any, option: attrs.Attribute[Any], solver: str) -> None:
    if solver != "exact" and instance.aggregator != "MGDA":
        raise ValueError("only MGDA has a choice of solvers")
    given = [key for key in _FRANK_WOLFE if key in instance.settings]
    if instance.aggregator == "MGDA" and solver == "exact" and given:
        raise ValueError(f'{given[0]} is a setting of torchjd\'s Frank-Wolfe steps; add solver = "frank-wolfe"')


def _drops(instance: Any, option: attrs.Attribute[Any], form: str) -> None:
    if form != "entry" and instance.aggregator != "GradDrop":
        raise ValueError("only GradDrop drops signs")


def _warms_up(instance: Any, option: attrs.Attribute[Any], epochs: int | None) -> None:
    if epochs is None:
        return
    if instance.scalarizer != "STCH":
        raise ValueError("only STCH has a warm-up")
    if "reference" in instance.settings:
        raise ValueError("after a warm-up losses are compared with their means in its last epoch; leave out reference")


def _trains_heads(instance: Any, option: attrs.Attribute[Any], wanted: bool) -> None:
    if not wanted:
        return
    if instance.aggregator not in weightings():
        raise ValueError("only aggregators on the Gramian find weights that the losses could have")
    if instance.aggregator in REMEMBERED:
        raise ValueError(f"{instance.aggregator} keeps a state, and can only weigh what enters the encoder")


@plugin
class TorchJD(nn.Module):
    """torchjd's methods by name: aggregators at the seam, scalarizers for the losses.

    Quinton and Rey, "Jacobian Descent For Multi-Objective Optimization", 2024, and the papers of its methods. They are
    given the branches that were reached, or the losses of the tasks that have a label, as if there were no others.
    """

    about = About(
        formula="aggregator: b = Σ w_t b_t, w = torchjd's weighting of the Gramian of the reached branches; "
        "scalarizer: total = torchjd's scalarizer of the active tasks' mean losses",
        source="torchjd (Quinton and Rey, 2024); every class names its own paper",
        cost="inner products at the features, and one round trip to the host in each step; FAMO: two forward passes; "
        "heads = true: a forward pass and K backward passes",
        departs="missing labels; the Gramian is divided by its mean diagonal (rescale); state of absent tasks is kept; "
        "MGDA is solved exactly; CAGrad's norm_eps is 1e-8",
    )

    aggregator: str | None = field(
        default=None,
        validator=_is_aggregator,
        metadata=help(f"name in torchjd.aggregation: {', '.join(aggregators())}"),
    )
    scalarizer: str | None = field(
        default=None,
        validator=_is_scalarizer,
        metadata=help(f"name in torchjd.scalarization: {', '.join(scalarizers())}"),
    )
    settings: dict[str, bool | int | float | str | tuple[float, ...]] = field(
        factory=dict,
        validator=_are_settings,
        metadata=help("arguments of torchjd's class; a list has a number for each task"),
    )
    rescale: bool = field(
        default=True,
        metadata=help("aggregators on the Gramian: divide it by its mean diagonal, for which torchjd's ε are made"),
    )
    primary: str | None = field(
        default=None, validator=_leads, metadata=help(f"{', '.join(LEADS)}: the task that leads; default: the first")
    )
    learning_rate: float | None = field(
        default=None,
        validator=validators.optional(validators.gt(0)),
        metadata=help('learning rate of what a scalarizer learns; "none" takes the experiment\'s'),
    )
    heads: bool = field(
        default=False,
        validator=_trains_heads,
        metadata=help("aggregators on the Gramian: the weights multiply the losses, so that heads train with them too"),
    )
    solver: Literal["exact", "frank-wolfe"] = field(
        default="exact",
        validator=[validators.in_(("exact", "frank-wolfe")), _solves],
        metadata=help("MGDA: the point of smallest norm itself, or what torchjd's Frank-Wolfe steps reach"),
    )
    graddrop: Literal["entry", "batch"] = field(
        default="entry",
        validator=[validators.in_(("entry", "batch")), _drops],
        metadata=help("GradDrop: signs of each entry of z, or of sign(z) · gradient added over the images (the paper)"),
    )
    warmup_epochs: int | None = field(
        default=None,
        validator=[validators.optional(validators.ge(0)), _warms_up],
        metadata=help("STCH: the epoch whose mean losses later ones are compared with, as LibMTL; none: no warm-up"),
    )

    @property
    def fills(self) -> tuple[str, ...]:
        """The hooks that this instance answers."""
        if self.heads:
            return "setup", "before_step", "combine_losses"
        if self.scalarizer is None:
            return "setup", "shape_encoder_gradient"
        return "setup", "combine_losses", "parameter_groups", *_MORE_HOOKS.get(self.scalarizer, ())

    @hookimpl
    def setup(self, name: str, tasks: Tasks, places: Mapping[str, str]) -> None:
        if self.heads and places.get("combine_losses", name) != name:
            raise MtlError(
                f'{name}: heads = true needs the hook combine_losses, which plugin "{places["combine_losses"]}" fills;'
                f' give it the place ([use] combine_losses = "{name}"), or set heads = false'
            )
        chosen = self.aggregator or self.scalarizer
        assert chosen is not None
        classes = scalarizers() if self.aggregator is None else aggregators()
        if self.primary is not None and self.primary not in tasks.names:
            raise MtlError(f'{name}.primary: no task "{self.primary}"{nearest(self.primary, tasks.names)}')
        first = 0 if self.primary is None else tasks.names.index(self.primary)
        recipe = Recipe(chosen, classes[chosen], self.settings, len(tasks), first if chosen in LEADS else None)
        recipe.make(torch.arange(len(tasks)))  # a wrong setting is reported before the first step
        self.method: Any = self._scalarized(recipe) if self.aggregator is None else self._aggregated(recipe)
        if self.aggregator is not None and self.graddrop == "entry":
            check_enough(name, recipe)

    def _scalarized(self, recipe: Recipe) -> Scalarized:
        if self.warmup_epochs is not None:
            return NadirSTCH(recipe, self.warmup_epochs)
        return _SCALARIZED.get(recipe.name, Scalarized)(recipe)

    def _aggregated(self, recipe: Recipe) -> Any:
        if recipe.name in elementwise():
            return BatchGradDrop(recipe) if self.graddrop == "batch" else Elementwise(recipe)
        kind = _WEIGHTS.get(recipe.name, GramianWeights)
        if recipe.name == "MGDA" and self.solver == "exact":
            kind = MinNorm
        weighting = kind(recipe, self.rescale)
        return LossWeights(weighting) if self.heads else weighting

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Shaped:
        shaped: Shaped = self.method.shape(gradients)
        return shaped

    @hookimpl
    def combine_losses(self, losses: Tensor, means: Tensor, active: Tensor, step: Step) -> Tensor:
        total: Tensor = self.method.combine(losses, means, active, step)
        return total

    @hookimpl
    def parameter_groups(self, learning_rate: float) -> Sequence[Mapping[str, Any]] | None:
        rate = learning_rate if self.learning_rate is None else self.learning_rate
        own = list(self.method.parameters())
        return [{"params": own, "lr": rate, "weight_decay": 0.0}] if own else None

    @hookimpl
    def before_step(self, look_ahead: LookAhead) -> None:
        self.method.before_step(look_ahead)

    @hookimpl
    def after_step(self, look_ahead: LookAhead) -> None:
        self.method.after_step(look_ahead)

    @hookimpl
    def after_epoch(self) -> None:
        self.method.after_epoch()
