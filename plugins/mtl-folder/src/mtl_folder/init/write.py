"""TOML with a comment behind each guess."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

_WIDTH = 44
"""Column that comments begin at."""


@attrs.frozen
class Line:
    """One key.

    :param value: bool, number, text, list or table
    :param note: the comment behind it
    """

    key: str
    value: Any
    note: str = ""

    def __str__(self) -> str:
        text = f"{self.key} = {_toml(self.value)}"
        return f"{text:<{_WIDTH - 2}}  # {self.note}" if self.note else text


@attrs.frozen
class Entry:
    """A task, or another table.

    :param name: of the task, before others of this name are known
    :param remark: a line above it
    """

    name: str
    lines: list[Line]
    remark: str = ""

    @property
    def kind(self) -> str:
        return next((str(line.value) for line in self.lines if line.key == "kind"), "")

    def text(self, header: str) -> str:
        remark = [f"# {self.remark}"] if self.remark else []
        return "\n".join([*remark, f"[{header}]", *map(str, self.lines)])


def _toml(value: Any) -> str:
    """A value as TOML, in one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_bare(name)} = {_toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, Iterable):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'


def _bare(name: str) -> str:
    """A key, in quotes where TOML wants them."""
    return name if name.isascii() and name and all(c.isalnum() or c in "-_" for c in name) else _quoted(name)
