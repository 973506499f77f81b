"""Experiments as TOML files: read with every mistake at once, written complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import tomlkit

from mtl_core import discovery
from mtl_core.discovery import InstalledPlugin
from mtl_core.errors import ExperimentError
from mtl_core.experiment import Experiment, chosen
from mtl_core.hooks.exclusive import check_places, check_use
from mtl_core.options.fields import options
from mtl_core.options.read import read_options
from mtl_core.settings.composition import compose, read_document
from mtl_core.settings.document import parse_toml, read_toml
from mtl_core.settings.file_keys import key_of
from mtl_core.settings.overrides import apply
from mtl_core.settings.plugins import read_plugins

_SUITE = {"experiments", "scenarios", "defaults", "engine"}
"""Keys that a suite's file has and an experiment's has not."""


def load_experiment(
    path: str | PathLike[str], overrides: Sequence[str] = (), added: Sequence[str] = (), dropped: Sequence[str] = ()
) -> Experiment:
    """Read an experiment file, and those that its ``base`` names, and import the plugins that they name.

    :param path: a TOML file
    :param overrides: ``KEY=VALUE`` as ``--set`` takes them, ``epochs=5`` or ``plugins.NAME.OPTION=2``; no quotes
    :param added: plugins to add behind those of the file, as ``--with`` takes them
    :param dropped: plugins to leave out, as ``--without`` takes them
    :raises ExperimentError: with every mistake in the file and in the overrides
    """
    return _experiment_of(read_document(Path(path)), str(path), overrides, None, added, dropped, Path(path).parent)


def parse_experiment(
    text: str,
    source: str,
    overrides: Sequence[str] = (),
    found: Sequence[InstalledPlugin] | None = None,
    folder: Path | None = None,
) -> Experiment:
    """:func:`load_experiment` for a text that is in memory.

    :param source: what messages call the text
    :param found: the installed plugins, where they are known already
    :param folder: what the paths of plugins in plain files are relative to; None: the current folder
    """
    document = parse_toml(text, source)
    if "base" in document and not _SUITE & set(document):
        raise ExperimentError(
            source, ["base: is relative to a file, and this text has none; read the file with load_experiment"]
        )
    return _experiment_of(document, source, overrides, found, folder=folder)


def _experiment_of(
    document: dict[str, Any],
    source: str,
    overrides: Sequence[str] = (),
    found: Sequence[InstalledPlugin] | None = None,
    added: Sequence[str] = (),
    dropped: Sequence[str] = (),
    folder: Path | None = None,
) -> Experiment:
    """The experiment that a document describes; the document is changed."""
    if _SUITE & set(document):
        raise ExperimentError(source, [f"this is a suite: mtl suite {source}"])
    problems = compose(document, added, dropped)
    problems += [problem for override in overrides for problem in apply(document, override)]
    tables = document.pop("plugins", None)
    # tables of plugins belong to other classes and are read on their own
    settings, wrong = read_options(Experiment, document | {"plugins": {}})
    plugins, wrong_plugins = read_plugins(tables, discovery.installed_plugins() if found is None else found, folder)
    problems += wrong + wrong_plugins + check_use(document.get("use"), plugins)
    if problems := problems + check_places(plugins, document.get("use")):
        raise ExperimentError(source, problems)
    made = Experiment(**{**settings, "plugins": plugins})
    made.source = source
    return made


def dump_experiment(experiment: Experiment, anchored: bool = False) -> str:
    """The experiment as TOML, complete with defaults; :func:`load_experiment` gives the same experiment.

    :param anchored: name plugins in plain files by absolute paths; otherwise they are expected beside the text's file
    """
    document = tomlkit.document()
    tables = {name: table for name in options(Experiment) if isinstance(table := getattr(experiment, name), dict)}
    for name in options(Experiment):
        if name not in tables:
            document.add(name, tomlkit.item(as_toml(getattr(experiment, name))))
    plugins = tomlkit.table(is_super_table=True)
    for name, plugin in experiment.plugins.items():
        values = {key: as_toml(value) for key, value in options_of(plugin).items()}
        plugins.add(key_of(name, plugin, anchored), _table_of(values))
    document.add("plugins", plugins)
    for name, values in tables.items():
        if name != "plugins":
            document.add(name, _table_of(values))
    return tomlkit.dumps(document)


def options_of(plugin: object) -> dict[str, Any]:
    """A plugin's options with the types that they were declared with, so that 4 for a number is written 4.0."""
    return read_options(type(plugin), chosen(plugin))[0]


def _table_of(values: Mapping[str, Any]) -> tomlkit.items.Table:
    table = tomlkit.table()
    for key, value in values.items():
        table.add(key, _table_of(value) if isinstance(value, Mapping) else as_toml(value))
    return table


def as_toml(value: Any) -> Any:
    """None is written "none"; a tuple as a list."""
    if isinstance(value, list | tuple):
        return [as_toml(part) for part in value]
    return "none" if value is None else value


__all__ = ["dump_experiment", "load_experiment", "options_of", "parse_experiment", "parse_toml", "read_toml"]
