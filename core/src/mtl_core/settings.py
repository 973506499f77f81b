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
from mtl_core.discovery import Found
from mtl_core.errors import ContractError, ExperimentError, nearest
from mtl_core.experiment import INSTANCE, Experiment, check_places, check_use, chosen
from mtl_core.kinds import describe
from mtl_core.options import options, read
from mtl_core.structure import Text

SUITE = {"experiments", "scenarios", "defaults", "engine", "base"}
"""Keys that a suite's file has and an experiment's has not."""


def load_experiment(path: str | PathLike[str], overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file and import the plugins that it names.

    :param path: a TOML file
    :param overrides: ``KEY=VALUE`` as ``--set`` takes them, ``epochs=5`` or ``plugins.NAME.OPTION=2``; no quotes
    :raises ExperimentError: with every mistake in the file and in the overrides
    """
    return parse_experiment(read_text(Path(path)), str(path), overrides)


def parse_experiment(
    text: str, source: str, overrides: Sequence[str] = (), found: Sequence[Found] | None = None
) -> Experiment:
    """:func:`load_experiment` for a text that is in memory.

    :param source: what messages call the text
    :param found: the installed plugins, where they are known already
    """
    document = parse(text, source)
    if SUITE & set(document):
        raise ExperimentError(source, [f"this is a suite: mtl suite {source}"])
    problems = [problem for override in overrides for problem in apply(document, override)]
    tables = document.pop("plugins", None)
    settings, wrong = read(Experiment, document | {"plugins": {}})
    plugins, wrong_plugins = read_plugins(tables, discovery.installed() if found is None else found)
    problems += wrong + wrong_plugins + check_use(document.get("use"), tables if isinstance(tables, dict) else ())
    if problems := problems + check_places(plugins, document.get("use")):
        raise ExperimentError(source, problems)
    made = Experiment(**{**settings, "plugins": plugins})
    made.source = source
    return made


def read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        others = [file.name for file in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise ExperimentError(str(path), [f"there is no such file{nearest(path.name, others)}"]) from None
    except UnicodeDecodeError as error:
        raise ExperimentError(str(path), [f"not a text file: byte {error.start} is not UTF-8"]) from None
    except OSError as error:
        raise ExperimentError(str(path), [f"cannot be read: {error.strerror}"]) from None


def parse(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
        line = where[1] if where and where[1] else str(text.count("\n") + 1)
        message = str(error)[: where.start()] if where else str(error)
        twice = re.match(r"Cannot declare \('plugins', '(.*)'\) twice", message)
        remedy = f'; a second instance of a plugin is written [plugins."{twice[1]}#2"]' if twice else ""
        raise ExperimentError(f"{source}:{line}", [f"not valid TOML: {message}{remedy}"]) from None


def apply(document: dict[str, Any], override: str) -> list[str]:
    """Put one ``KEY=VALUE`` into the document; what is wrong with its key."""
    key, separator, value = override.partition("=")
    steps = split(key)
    if not separator or not all(steps):
        return [f"--set {override}: expected KEY=VALUE, such as epochs=5 or plugins.NAME.OPTION=2"]
    problems, table = below(document, steps, override)
    if not problems:
        table[steps[-1]] = Text(value.strip())
    return problems


def split(key: str) -> list[str]:
    """``plugins."name#2".option`` → its steps; quotes may be left out."""
    parts = re.findall(r'"([^"]*)"|([^."]+)', key.strip())
    return [quoted or bare.strip() for quoted, bare in parts] or [""]


def below(document: dict[str, Any], steps: Sequence[str], override: str) -> tuple[list[str], dict[str, Any]]:
    """The table that the last step stands in."""
    depth = {"plugins": 3, "use": 2}.get(steps[0], 1)
    if len(steps) != depth:
        shape = {3: "plugins.PLUGIN.OPTION=VALUE", 2: "use.HOOK=PLUGIN", 1: f"{steps[0]}=VALUE"}[depth]
        return [f"--set {override}: expected {shape}"], document
    tables = document.setdefault(steps[0], {}) if depth > 1 else document
    if depth == 3:
        if not isinstance(tables, dict) or not isinstance(tables.get(steps[1], {}), dict):
            return [], {}  # reported as a wrong type already
        if steps[1] not in tables:
            has = ", ".join(tables)
            known = nearest(steps[1], tables) or f" (it has: {has})"
            return [f'--set {override}: the experiment has no plugin "{steps[1]}"{known}'], {}
        tables = tables[steps[1]]
    return [], tables if isinstance(tables, dict) else {}


def read_plugins(tables: object, found: Sequence[Found]) -> tuple[dict[str, object], list[str]]:
    """Import the plugins that the tables name and make them."""
    if tables is None:
        return {}, [
            "plugins: missing; expected a table for each plugin, such as [plugins.NAME] (`mtl plugins` lists them)"
        ]
    if not isinstance(tables, Mapping):
        return {}, [f"plugins: expected a table for each plugin, found {describe(tables)}"]
    made: dict[str, object] = {}
    problems: list[str] = []
    for name, table in tables.items():
        plugin, wrong = read_plugin(name, table, found)
        problems += [f"plugins.{name}{problem}" if problem[0] in ":." else problem for problem in wrong]
        made[name] = plugin
    return made, problems


def read_plugin(name: str, table: object, found: Sequence[Found]) -> tuple[object, list[str]]:
    if not re.fullmatch(INSTANCE, name):
        return None, [': expected the name of a plugin, a second instance as "NAME#2"']
    if not isinstance(table, Mapping):
        return None, [f": expected a table of options, found {describe(table)}"]
    base = name.partition("#")[0]
    matches = [f for f in found if f.name == base]
    if not matches:
        return None, [f": {not_installed(base, found)}"]
    try:
        cls = discovery.load(matches[0])
        values, problems = read(cls, table, f"plugins.{name}", options(Experiment))
        return (None, problems) if problems else make(cls, values)
    except ContractError as error:
        return None, [f": {error}"]


def make(cls: type, values: Mapping[str, Any]) -> tuple[object, list[str]]:
    try:
        return cls(**values), []
    except (ValueError, TypeError) as error:  # what a plugin checks across options
        return None, [f": {error.args[0] if error.args else error}"]


def not_installed(name: str, found: Sequence[Found]) -> str:
    """Misspelt and not installed are different mistakes."""
    names = sorted({f.name for f in found})
    if guess := nearest(name, names):
        return f"no plugin of this name is installed{guess}"
    listed = f"installed: {', '.join(names)}" if names else "no plugin is installed"
    return f"no plugin of this name is installed ({listed}); where it has a distribution: pip install mtl-{name}"


def dump_experiment(experiment: Experiment) -> str:
    """The experiment as TOML, complete with defaults; :func:`load_experiment` gives the same experiment."""
    document = tomlkit.document()
    for name in options(Experiment):
        if name not in ("plugins", "use"):
            document.add(name, tomlkit.item(as_toml(getattr(experiment, name))))
    plugins = tomlkit.table(is_super_table=True)
    for name, plugin in experiment.plugins.items():
        plugins.add(name, table_of({key: as_toml(value) for key, value in options_of(plugin).items()}))
    document.add("plugins", plugins)
    document.add("use", table_of(experiment.use))
    return tomlkit.dumps(document)


def options_of(plugin: object) -> dict[str, Any]:
    """A plugin's options with the types that they were declared with, so that 4 for a number is written 4.0."""
    return read(type(plugin), chosen(plugin))[0]


def table_of(values: Mapping[str, Any]) -> tomlkit.items.Table:
    table = tomlkit.table()
    for key, value in values.items():
        table.add(key, value)
    return table


def as_toml(value: Any) -> Any:
    """None is written "none"; a tuple as a list."""
    if isinstance(value, list | tuple):
        return [as_toml(part) for part in value]
    return "none" if value is None else value
