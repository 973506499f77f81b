"""The plugins of an experiment file: tables become objects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mtl_core.discovery import InstalledPlugin
from mtl_core.errors import ContractError, Terminated, nearest
from mtl_core.experiment import INSTANCE, Experiment, chosen
from mtl_core.hooks.load import load
from mtl_core.options.fields import options
from mtl_core.options.read import read_options
from mtl_core.options.type_names import describe_value


def read_plugins(tables: object, found: Sequence[InstalledPlugin]) -> tuple[dict[str, object], list[str]]:
    """Import the plugins that the tables name and make them."""
    if tables is None:
        return {}, [
            "plugins: missing; expected a table for each plugin, such as [plugins.NAME] (`mtl plugins` lists them)"
        ]
    if not isinstance(tables, Mapping):
        return {}, [f"plugins: expected a table for each plugin, found {describe_value(tables)}"]
    made: dict[str, object] = {}
    problems: list[str] = []
    for name, table in tables.items():
        plugin, wrong = read_plugin(name, table, found)
        problems += [f"plugins.{name}{problem}" if problem[0] in ":." else problem for problem in wrong]
        made[name] = plugin
    return made, problems


def read_plugin(name: str, table: object, found: Sequence[InstalledPlugin]) -> tuple[object, list[str]]:
    if not re.fullmatch(INSTANCE, name):
        return None, [': expected the name of a plugin, a second instance as "NAME#2"']
    if not isinstance(table, Mapping):
        return None, [f": expected a table of options, found {describe_value(table)}"]
    base = name.partition("#")[0]
    matches = [f for f in found if f.name == base]
    if not matches:
        return None, [f": {not_installed(base, found)}"]
    who = f"{matches[0].distribution} {matches[0].version}"
    try:
        cls = load(matches[0])
    except ContractError as error:
        return None, [f": {error}"]
    try:
        values, problems = read_options(cls, table, f"plugins.{name}", options(Experiment))
        return (None, problems) if problems else make(cls, values)
    except ContractError as error:
        return None, [f": {who}: {error}; the author has to correct it"]
    except Terminated:
        raise
    except (Exception, SystemExit) as error:  # a validator, or what a plugin does when it is made
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        return None, [f": {who}: raised {reason} when its options were read; the author has to correct it"]


def make(cls: type, values: Mapping[str, Any]) -> tuple[object, list[str]]:
    try:
        made = cls(**values)
        read_options(cls, chosen(made))  # that a file could carry all of them: the run's folder keeps one
        return made, []
    except (ValueError, TypeError) as error:  # what a plugin checks across options
        return None, [f": {error.args[0] if error.args else error}"]


def not_installed(name: str, found: Sequence[InstalledPlugin]) -> str:
    """Misspelt and not installed are different mistakes."""
    names = sorted({f.name for f in found})
    if guess := nearest(name, names):
        return f"no plugin of this name is installed{guess}"
    listed = f"installed: {', '.join(names)}" if names else "no plugin is installed"
    return f"no plugin of this name is installed ({listed}); where it has a distribution: pip install mtl-{name}"
