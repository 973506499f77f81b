"""The tables of a suite file: laid over each other, and taken apart into its own keys and the experiments' settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import attrs

from mtl_core import (
    ExperimentError,
    anchor_files,
    describe_value,
    parse_toml,
    read_options,
    read_toml,
    short_name,
    split_key,
)

Document = dict[str, Any]

Own = TypeVar("Own")
"""A class of :mod:`mtl_core.suite.schema`."""


def with_base(path: Path, above: Sequence[Path] = ()) -> Document:
    """A suite's document, laid over those of the files that its ``base`` names, the last of them on top."""
    document = anchor_files(parse_toml(read_toml(path), str(path)), path.parent)
    base = document.pop("base", [])
    names = [base] if isinstance(base, str) else base
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ExperimentError(str(path), [f"base: expected a file or a list of files, found {describe_value(base)}"])
    if path.resolve() in above:
        raise ExperimentError(str(path), ["base: the files name each other in a circle"])
    below = [with_base(path.parent / name, (*above, path.resolve())) for name in names]
    return merged(*below, document)


def merged(*tables: Mapping[str, Any]) -> Document:
    """Tables laid over each other, the last on top; tables in them are merged too."""
    found: Document = {}
    for table in tables:
        for key, value in table.items():
            both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
            found[key] = merged(found[key], value) if both else deepcopy(value)
    return found


def put(document: Document, key: str, value: object) -> None:
    """Set ``plugins.name.option``."""
    *above, last = split_key(key)
    table = document
    for step in above:
        known = {short_name(name): name for name in table}  # a plugin in a plain file, by its name in the run
        table = table.setdefault(known.get(step, step), {})
    table[last] = value


def taken_apart(kind: type[Own], tables: object, path: str) -> tuple[dict[str, Own], dict[str, Document], list[str]]:
    """(what is the suite's own in each of the tables, the experiments' settings that are left, mistakes)."""
    if not isinstance(tables, Mapping) or not all(isinstance(table, Mapping) for table in tables.values()):
        return {}, {}, [f"{path}: expected a table for each {path.removesuffix('s')}, such as [{path}.NAME]"]
    own, known = dict[str, Own](), attrs.fields_dict(kind)  # type: ignore[arg-type]
    problems: list[str] = []
    for name, table in tables.items():
        values, wrong = read_options(kind, {k: v for k, v in table.items() if k in known}, f"{path}.{name}")
        problems += wrong
        own[name] = kind() if wrong else kind(**values)
    left = {name: {k: v for k, v in table.items() if k not in known} for name, table in tables.items()}
    return own, left, problems
