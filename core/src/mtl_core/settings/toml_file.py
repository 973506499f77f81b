"""Experiments as TOML files: read with every mistake at once, written complete."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import tomlkit

from mtl_core import discovery
from mtl_core.discovery import InstalledPlugin
from mtl_core.errors import ExperimentError, nearest
from mtl_core.experiment import Experiment, chosen
from mtl_core.hooks.exclusive import check_places, check_use
from mtl_core.options.fields import options
from mtl_core.options.read import read_options
from mtl_core.settings.overrides import apply
from mtl_core.settings.plugins import read_plugins

_SUITE = {"experiments", "scenarios", "defaults", "engine", "base"}
"""Keys that a suite's file has and an experiment's has not."""


def load_experiment(path: str | PathLike[str], overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file and import the plugins that it names.

    :param path: a TOML file
    :param overrides: ``KEY=VALUE`` as ``--set`` takes them, ``epochs=5`` or ``plugins.NAME.OPTION=2``; no quotes
    :raises ExperimentError: with every mistake in the file and in the overrides
    """
    return parse_experiment(read_toml(Path(path)), str(path), overrides)


def parse_experiment(
    text: str, source: str, overrides: Sequence[str] = (), found: Sequence[InstalledPlugin] | None = None
) -> Experiment:
    """:func:`load_experiment` for a text that is in memory.

    :param source: what messages call the text
    :param found: the installed plugins, where they are known already
    """
    document = parse_toml(text, source)
    if _SUITE & set(document):
        raise ExperimentError(source, [f"this is a suite: mtl suite {source}"])
    problems = [problem for override in overrides for problem in apply(document, override)]
    tables = document.pop("plugins", None)
    # tables of plugins belong to other classes and are read on their own
    settings, wrong = read_options(Experiment, document | {"plugins": {}})
    plugins, wrong_plugins = read_plugins(tables, discovery.installed_plugins() if found is None else found)
    problems += wrong + wrong_plugins + check_use(document.get("use"), tables if isinstance(tables, dict) else ())
    if problems := problems + check_places(plugins, document.get("use")):
        raise ExperimentError(source, problems)
    made = Experiment(**{**settings, "plugins": plugins})
    made.source = source
    return made


def read_toml(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")  # a byte order mark, which some editors write, is no part of the text
    except FileNotFoundError:
        others = [file.name for file in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise ExperimentError(str(path), [f"there is no such file{nearest(path.name, others)}"]) from None
    except UnicodeDecodeError as error:
        raise ExperimentError(str(path), [f"not a text file: byte {error.start} is not UTF-8"]) from None
    except OSError as error:
        raise ExperimentError(str(path), [f"cannot be read: {error.strerror}"]) from None


def parse_toml(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # tomllib gives the position in its message only (as attributes from Python 3.14 on); a test pins the wording
        where = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
        line = where[1] if where and where[1] else str(text.count("\n") + 1)
        message = str(error)[: where.start()] if where else str(error)
        twice = re.match(r"Cannot declare \('plugins', '(.*)'\) twice", message)
        remedy = f'; a second instance of a plugin is written [plugins."{twice[1]}#2"]' if twice else ""
        raise ExperimentError(f"{source}:{line}", [f"not valid TOML: {message}{remedy}"]) from None


def dump_experiment(experiment: Experiment) -> str:
    """The experiment as TOML, complete with defaults; :func:`load_experiment` gives the same experiment."""
    document = tomlkit.document()
    for name in options(Experiment):
        if name not in ("plugins", "use"):
            document.add(name, tomlkit.item(as_toml(getattr(experiment, name))))
    plugins = tomlkit.table(is_super_table=True)
    for name, plugin in experiment.plugins.items():
        plugins.add(name, _table_of({key: as_toml(value) for key, value in options_of(plugin).items()}))
    document.add("plugins", plugins)
    document.add("use", _table_of(experiment.use))
    return tomlkit.dumps(document)


def options_of(plugin: object) -> dict[str, Any]:
    """A plugin's options with the types that they were declared with, so that 4 for a number is written 4.0."""
    return read_options(type(plugin), chosen(plugin))[0]


def _table_of(values: Mapping[str, Any]) -> tomlkit.items.Table:
    table = tomlkit.table()
    for key, value in values.items():
        table.add(key, value)
    return table


def as_toml(value: Any) -> Any:
    """None is written "none"; a tuple as a list."""
    if isinstance(value, list | tuple):
        return [as_toml(part) for part in value]
    return "none" if value is None else value
