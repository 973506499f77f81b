"""Experiments made of others: a file laid over the files that its ``base`` names, plugins added and dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from mtl_core.errors import ExperimentError, nearest
from mtl_core.options.type_names import describe_value
from mtl_core.settings.document import parse_toml, read_toml
from mtl_core.settings.file_keys import anchor_files

_Document = dict[str, Any]


def read_document(path: Path, above: Sequence[Path] = ()) -> _Document:
    """A TOML file, laid over those that its ``base`` names, the last of them on top.

    A base is a path beside the file. Tables are merged key by key; any other value replaces that of the base. The
    plugins of its list ``without`` are left out of what the bases give.

    :param above: the files whose base this one is
    :raises ExperimentError: a file cannot be read, or the files name each other in a circle
    """
    document = parse_toml(read_toml(path), str(path))
    base = document.pop("base", [])
    names = [base] if isinstance(base, str) else base
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ExperimentError(str(path), [f"base: expected a file or a list of files, found {describe_value(base)}"])
    if path.resolve() in above:
        raise ExperimentError(str(path), ["base: the files name each other in a circle"])
    if not names:
        return document
    # each file names plugins in plain files beside it; absolute paths mean the same in all of them
    document = anchor_files(document, path.parent)
    below = []
    for name in names:
        other = path.parent / name
        below.append(anchor_files(read_document(other, (*above, path.resolve())), other.parent))
    found = merged(*below)
    if problems := _drop(found, document.pop("without", []), "without"):
        raise ExperimentError(str(path), problems)
    return merged(found, document)


def merged(*tables: Mapping[str, Any]) -> _Document:
    """Tables laid over each other, the last on top; tables in them are merged too."""
    found: _Document = {}
    for table in tables:
        for key, value in table.items():
            both_tables = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
            # copied: a caller changes the result, and the tables may be laid over others as well
            found[key] = merged(found[key], value) if both_tables else deepcopy(value)
    return found


def compose(document: _Document, added: Sequence[str], dropped: Sequence[str]) -> list[str]:
    """Leave out the plugins of the document's list ``without``, then add and drop plugins of the command line.

    :return: what is wrong, a line each
    """
    problems = _drop(document, document.pop("without", []), "without")
    problems += _drop(document, list(dropped), "--without")
    for name in added:
        problems += _add(document, name)
    return problems


def _add(document: _Document, name: str) -> list[str]:
    """Give the document a plugin with its defaults, behind the others; one that it has stays as it is."""
    plugins = document.setdefault("plugins", {})
    if not isinstance(plugins, dict):
        return []  # reported as a wrong type already
    if not name.strip():
        return ["--with: expected a plugin's name; mtl plugins lists them"]
    plugins.setdefault(name, {})
    return []


def _drop(document: _Document, names: object, source: str) -> list[str]:
    """Take plugins out of a document, and out of ``[use]``.

    :param source: the key or the option that names them, as messages call it
    """
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return [f"{source}: expected a list of plugins, found {describe_value(names)}"]
    plugins = document.get("plugins", {})
    use = document.get("use", {})
    if not isinstance(plugins, dict):
        return []  # reported as a wrong type already
    problems = []
    for name in names:
        if name not in plugins:
            known = nearest(name, plugins) or f" (it has: {', '.join(plugins)})"
            problems.append(f'{source} {name}: the experiment has no plugin "{name}"{known}')
        plugins.pop(name, None)
    if isinstance(use, dict) and use:
        document["use"] = {hook: plugin for hook, plugin in use.items() if plugin not in names}
    return problems
