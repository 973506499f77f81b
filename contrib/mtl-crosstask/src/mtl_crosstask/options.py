"""What both regularizers by maps between tasks can be given, and the maps that they make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from attrs import field
from attrs.validators import gt, optional
from torch import nn

from mtl_core import Tasks, help, hookimpl
from mtl_crosstask.maps import PairMaps
from mtl_nn import Networks


# a method __setattr__ of attrs would stand before that of torch, which registers modules
@attrs.define(kw_only=True, eq=False, slots=False, on_setattr=attrs.setters.NO_OP)
class MapOptions:
    """A map for every ordered pair of the chosen tasks; ``mapped`` are the tasks, ``m`` the maps."""

    learning_rate: float | None = field(
        default=None, validator=optional(gt(0.0)), metadata=help("of the maps; none: the experiment's")
    )
    width: int | None = field(
        default=None, validator=optional(gt(0)), metadata=help("channels of a map's first level; none: the backbone's")
    )
    tasks: tuple[str, ...] = field(default=(), metadata=help("tasks that are mapped; empty: all"))

    @hookimpl
    def setup(self, name: str, tasks: Tasks, backbone: nn.Module) -> None:
        self.mapped = tasks.choose_dense(self.tasks, name, "maps need")
        self.m = PairMaps(self.mapped, Networks.of(backbone), self.width)

    @hookimpl
    def parameter_groups(self) -> Sequence[Mapping[str, Any]] | None:
        return None if self.learning_rate is None else [{"params": list(self.m.parameters()), "lr": self.learning_rate}]
