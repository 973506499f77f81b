"""Observers: plugins that are called in every run without being named in its experiment."""

from __future__ import annotations

import logging

from mtl_core import discovery
from mtl_core.errors import ContractError
from mtl_core.hooks.load import load
from mtl_core.hooks.relay import Hooks
from mtl_core.hooks.spec_table import hooks_of

_GROUP = "mtl.observers"
_ALLOWED = {"after_epoch", "after_run", "after_predict"}

_log = logging.getLogger("mtl")


def open_observers() -> Hooks:
    """The installed observers; one that cannot be used is reported and left out."""
    usable: dict[str, object] = {}
    for found in discovery.installed_plugins(group=_GROUP):
        try:
            cls = load(found)
            if foreign := set(hooks_of(cls)) - _ALLOWED:
                raise ContractError(f"an observer has only {sorted(_ALLOWED)}, found {sorted(foreign)}")
            usable[found.name] = cls()
        except ContractError as error:
            _log.warning("observer %s: %s", found.name, error)
    return Hooks(usable, required=())
