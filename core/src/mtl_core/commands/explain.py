"""``mtl explain``: what a plugin computes, costs and departs from, and its options. Imports no torch of its own."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtl_core import discovery
from mtl_core.errors import MtlError, nearest
from mtl_core.experiment import Experiment
from mtl_core.hooks.load import load
from mtl_core.hooks.plain_file import KEY, load_from_file
from mtl_core.hooks.plugin import About
from mtl_core.hooks.spec_table import hooks_of
from mtl_core.options.fields import kind_of, options
from mtl_core.options.type_names import expected
from mtl_core.settings.plugins import not_installed
from mtl_core.settings.toml_file import as_toml


def explain(name: str) -> dict[str, Any]:
    """Everything that a plugin says of itself, as plain types; of ``experiment``, the settings of an experiment.

    :param name: its entry point, or FILE.py:CLASS
    :raises MtlError: it is not installed, or cannot be imported
    """
    if in_file := KEY.fullmatch(name):
        path = Path(in_file["path"]).expanduser()
        return _record_of(name, str(path.resolve()), load_from_file(path, in_file["cls"]))
    found = discovery.installed_plugins()
    matches = [f for f in found if f.name == name]
    if not matches and name == "experiment":
        return _record_of(name, f"{discovery.CORE} {discovery.core_version()}", Experiment)
    if not matches and (guess := nearest(name, ["experiment"])):
        raise MtlError(f"{name}: no plugin of this name is installed{guess}")
    if not matches:
        raise MtlError(f"{name}: {not_installed(name, found)}")
    return _record_of(name, f"{matches[0].distribution} {matches[0].version}", load(matches[0]))


def _record_of(name: str, distribution: str, cls: type) -> dict[str, Any]:
    about = getattr(cls, "about", None)
    return {
        "name": name,
        "distribution": distribution,
        "summary": "\n\n".join(map(_paragraph, inspect.cleandoc(cls.__doc__ or "").split("\n\n"))),
        "hooks": list(hooks_of(cls)),
        "about": attrs.asdict(about) if isinstance(about, About) else None,
        "options": [_describe(cls, key, option) for key, option in options(cls).items()],
    }


def _paragraph(text: str) -> str:
    """Text on one line, for a terminal of any width; lists and code keep their lines."""
    return text if any(line[:1] in " -*:" for line in text.splitlines()) else " ".join(text.splitlines())


def _describe(cls: type, key: str, option: attrs.Attribute[Any]) -> dict[str, Any]:
    default = option.default.factory() if isinstance(option.default, attrs.Factory) else option.default  # type: ignore[arg-type, union-attr]
    return {
        "name": key,
        "type": expected(kind_of(cls, option)),
        "default": None if default is attrs.NOTHING else as_toml(default),
        "required": default is attrs.NOTHING,
        "help": option.metadata.get("help", ""),
    }


def show(record: dict[str, Any], console: Console) -> None:
    """The record as a page."""
    console.print(f"[bold]{escape(record['name'])}[/bold]  ({escape(record['distribution'])})\n")
    console.print(escape(record["summary"]) + "\n")
    for title, text in (record["about"] or {}).items():
        console.print(f"[bold]{title}[/bold]\n{escape(text)}\n")
    if record["hooks"]:
        console.print(f"[bold]hooks[/bold]\n{' '.join(record['hooks'])}\n")
    table = Table("option", "type", "default", "what it is", box=None, pad_edge=False)
    for row in record["options"]:
        table.add_row(*(escape(cell) for cell in (row["name"], row["type"], as_default(row), row["help"])))
    console.print(table if record["options"] else "no options")


def as_default(row: dict[str, Any]) -> str:
    """An option's default as an experiment file writes it."""
    return "required" if row["required"] else json.dumps(row["default"], ensure_ascii=False)
