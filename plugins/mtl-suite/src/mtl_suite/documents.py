"""The tables of a suite file, split into its own keys and the experiments' settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from mtl_core import read_options, short_name, split_key

Document = dict[str, Any]

_Own = TypeVar("_Own")
"""A class of :mod:`mtl_suite.schema`."""


def put(document: Document, key: str, value: object) -> None:
    """Set ``plugins.name.option``."""
    *above, last = split_key(key)
    table = document
    for step in above:
        known = {short_name(name): name for name in table}  # a plugin in a plain file, by its name in the run
        table = table.setdefault(known.get(step, step), {})
    table[last] = value


def split_tables(kind: type[_Own], tables: object, path: str) -> tuple[dict[str, _Own], dict[str, Document], list[str]]:
    """(what is the suite's own in each of the tables, the experiments' settings that are left, mistakes)."""
    if not isinstance(tables, Mapping) or not all(isinstance(table, Mapping) for table in tables.values()):
        return {}, {}, [f"{path}: expected a table for each {path.removesuffix('s')}, such as [{path}.NAME]"]
    own: dict[str, _Own] = {}
    left: dict[str, Document] = {}
    known = attrs.fields_dict(kind)  # type: ignore[arg-type]
    problems: list[str] = []
    for name, table in tables.items():
        mine = {key: value for key, value in table.items() if key in known}
        values, wrong = read_options(kind, mine, f"{path}.{name}")
        problems += wrong
        own[name] = kind() if wrong else kind(**values)
        left[name] = {key: value for key, value in table.items() if key not in known}
    return own, left, problems
