"""The plugins of an experiment file: tables become objects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mtl_core.discovery import InstalledPlugin
from mtl_core.errors import ContractError, Terminated, nearest
from mtl_core.experiment import INSTANCE, Experiment, chosen
from mtl_core.hooks.load import load
from mtl_core.hooks.plain_file import KEY, load_from_file, origins
from mtl_core.options.fields import options
from mtl_core.options.read import read_options
from mtl_core.options.type_names import describe_value
from mtl_core.settings.file_keys import short_name
from mtl_core.settings.plugin_distributions import distribution_of_plugins


def read_plugins(
    tables: object, found: Sequence[InstalledPlugin], folder: Path | None = None
) -> tuple[dict[str, object], list[str]]:
    """Import the plugins that the tables name and make them.

    :param folder: what the paths of plugins in plain files are relative to; None: the current folder
    """
    if tables is None:
        return {}, [
            "plugins: missing; expected a table for each plugin, such as [plugins.NAME] (`mtl plugins` lists them)"
        ]
    if not isinstance(tables, Mapping):
        return {}, [f"plugins: expected a table for each plugin, found {describe_value(tables)}"]
    made: dict[str, object] = {}
    problems: list[str] = []
    for name, table in tables.items():
        # a plugin that cannot be made is None, so that the others are still checked against each other
        plugin, wrong = _read_plugin(name, table, found, folder or Path())
        problems += [f"plugins.{name}{problem}" if problem[0] in ":." else problem for problem in wrong]
        if short_name(name) in made:
            problems.append(f'plugins.{name}: another plugin is called "{short_name(name)}" too; rename the class')
        made[short_name(name)] = plugin
    return made, problems + _same_files(made)


def _same_files(plugins: Mapping[str, object]) -> list[str]:
    """Files of one name, of which a run folder could keep only one."""
    kept: dict[str, Path] = {}
    for file in origins(plugins).values():
        if kept.setdefault(file.path.name, file.path) != file.path:
            return [f"plugins: {kept[file.path.name]} and {file.path} have the same name; rename one of the two files"]
    return []


def _read_plugin(name: str, table: object, found: Sequence[InstalledPlugin], folder: Path) -> tuple[object, list[str]]:
    in_file = KEY.fullmatch(name)
    if not in_file and ".py" in name:
        return None, [': expected the class behind the file, as in "./my_idea.py:MyIdea"']
    if not in_file and not re.fullmatch(INSTANCE, name):
        return None, [': expected the name of a plugin, a second instance as "NAME#2"']
    if not isinstance(table, Mapping):
        return None, [f": expected a table of options, found {describe_value(table)}"]
    base = name.partition("#")[0]
    matches = [f for f in found if f.name == base]
    if not matches and not in_file:
        return None, [f": {not_installed(base, found)}"]
    who = f"{matches[0].distribution} {matches[0].version}" if matches else name
    try:
        cls = (
            load_from_file(folder / Path(in_file["path"]).expanduser(), in_file["cls"]) if in_file else load(matches[0])
        )
    except ContractError as error:
        return None, [f": {error}"]
    try:
        values, problems = read_options(cls, table, f"plugins.{name}", options(Experiment))
        return (None, problems) if problems else _make(cls, values)
    except ContractError as error:
        return None, [f": {who}: {error}; the author has to correct it"]
    except Terminated:
        raise
    except (Exception, SystemExit) as error:  # a validator, or what a plugin does when it is made
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        return None, [f": {who}: raised {reason} when its options were read; the author has to correct it"]


def _make(cls: type, values: Mapping[str, Any]) -> tuple[object, list[str]]:
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
    known = distribution_of_plugins()
    if name in known:
        return f"this plugin comes with {known[name]}, which is not installed: pip install {known[name]}"
    listed = f"installed: {', '.join(names)}" if names else "no plugin is installed"
    # stricter than among the installed ones: the advice is to install something
    other = next(iter(get_close_matches(name, set(known) - set(names), 1, 0.7)), None)
    hint = f'; did you mean "{other}", which comes with {known[other]}: pip install {known[other]}?' if other else ""
    return f"no plugin of this name is installed ({listed}){hint}"
