"""A table of the description as an attrs class, and every mistake in it as one line.

Core converts the values, as it does with the options of a plugin. A class may have a method ``mistakes`` that gives
(key, what is wrong) for what concerns several of its fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mtl_core import describe_value, read_options

_Table = TypeVar("_Table")


def valid(check: Callable[[Any], None]) -> Callable[[object, object, Any], None]:
    """A validator of a field.

    :param check: takes the value, and raises ``ValueError`` with what is wrong
    """

    def validate(instance: object, attribute: object, value: Any) -> None:
        check(value)

    return validate


def read_as(cls: type[_Table], table: object, path: str) -> tuple[_Table | None, list[str]]:
    """A table of the description, or every mistake in it.

    :param path: its key, such as ``"tasks.depth"``
    """
    if not isinstance(table, Mapping):
        return None, [f"{path}: expected a table, found {describe_value(table)}"]
    values, problems = read_options(cls, table, path)
    if problems:
        return None, problems
    made = cls(**values)
    problems = [f"{path}.{key}: {text}" for key, text in getattr(made, "mistakes", tuple)()]
    return (None if problems else made), problems
