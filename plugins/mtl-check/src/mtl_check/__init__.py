"""Whether a plugin keeps its promises, and whether an installation works.

Names are imported when they are asked for: ``mtl --help`` loads this package, and torch takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl_check.findings import Findings
    from mtl_check.plugin import check_kind, check_plugin

__all__ = ["Findings", "check_kind", "check_plugin"]

_HOMES = {"Findings": "findings", "check_kind": "plugin", "check_plugin": "plugin"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mtl_check.{_HOMES[name]}"), name)
