"""Help pages of ``mtl``: flags are shown without a type, which says nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class _PlainFlags:
    """Leaves the type of a flag out, such as ``<bool>``."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


class _Command(_PlainFlags, TyperCommand):
    """A command of ``mtl``."""


class Group(_PlainFlags, TyperGroup):
    """A group of commands, such as ``mtl data``."""


def use_plain_flags(apps: Iterable[typer.Typer]) -> None:
    """Let every command of some apps have such a page."""
    for app in apps:
        for info in app.registered_commands:
            info.cls = _Command
