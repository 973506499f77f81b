"""``KEY=VALUE`` from the command line, put into an experiment's document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mtl_core.errors import nearest
from mtl_core.options.convert import Text
from mtl_core.settings.file_keys import short_name


def apply(document: dict[str, Any], override: str) -> list[str]:
    """Put one ``KEY=VALUE`` into the document; what is wrong with its key."""
    key, separator, value = override.partition("=")
    steps = split_key(key)
    if steps[0] == "rates":  # a part's name has dots of its own
        steps = ["rates", *filter(None, [".".join(steps[1:])])]
    if not separator or not all(steps):
        return [f"--set {override}: expected KEY=VALUE, such as epochs=5 or plugins.NAME.OPTION=2"]
    problems, table = _below(document, steps, override)
    if not problems:
        # the type is not known here: the option converts the text when the whole document is read
        table[steps[-1]] = Text(value.strip())
    return problems


def split_key(key: str) -> list[str]:
    """``plugins."name#2".option`` → its steps; quotes may be left out."""
    parts = re.findall(r'"([^"]*)"|([^."]+)', key.strip())
    return [quoted or bare.strip() for quoted, bare in parts] or [""]


_SHAPES = {
    "plugins": "plugins.PLUGIN.OPTION=VALUE",
    "use": "use.HOOK=PLUGIN",
    "task_options": "task_options.TASK.OPTION=VALUE",
    "optimizer_options": "optimizer_options.OPTION=VALUE",
    "rates": "rates.PART=FACTOR",
}
"""The keys of settings that are tables."""


def _below(document: dict[str, Any], steps: Sequence[str], override: str) -> tuple[list[str], dict[str, Any]]:
    """The table that holds the last step."""
    shape = _SHAPES.get(steps[0], f"{steps[0]}=VALUE")
    depth = shape.count(".") + 1
    if len(steps) != depth:
        return [f"--set {override}: expected {shape}"], document
    tables = document.setdefault(steps[0], {}) if depth > 1 else document
    if depth == 3:
        if not isinstance(tables, dict) or not isinstance(tables.get(steps[1], {}), dict):
            return [], {}  # reported as a wrong type already
        if steps[0] == "task_options":
            return [], tables.setdefault(steps[1], {})
        names = {short_name(key): key for key in tables} | {key: key for key in tables}
        asked = steps[1] if steps[1] in names else short_name(steps[1])
        if asked not in names:
            has = ", ".join(map(short_name, tables))
            known = nearest(steps[1], names) or f" (it has: {has}; `mtl train --with {steps[1]}` adds it)"
            return [f'--set {override}: the experiment has no plugin "{steps[1]}"{known}'], {}
        tables = tables[names[asked]]
    return [], tables if isinstance(tables, dict) else {}
