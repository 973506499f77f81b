"""Which plugins keep state that no module holds."""

from __future__ import annotations

from typing import Any

from torch import nn

from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.hooks.relay import Hooks
from mtl_core.training.plugin_state import stateful


@plugin
class Plain:
    """Keeps nothing."""

    @hookimpl
    def after_epoch(self) -> None: ...


@plugin
class Learns(nn.Module):
    """A module, whose state the step holds."""

    @hookimpl
    def after_epoch(self) -> None: ...


@plugin
class Remembers:
    """Counts in Python."""

    @hookimpl
    def after_epoch(self) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def test_plugins_that_are_no_modules_and_can_load_a_state() -> None:
    hooks = Hooks({"plain": Plain(), "learns": Learns(), "remembers#2": Remembers()}, required=())
    assert stateful(hooks) == {"remembers#2": hooks.plugins["remembers#2"]}
