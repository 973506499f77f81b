"""The types that options may have, and what they are called in messages."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

_PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: '"none"'}

_WORDS = {
    bool: "boolean",
    int: "whole number",
    float: "number",
    str: "text",
    dict: "table",
    list: "list",
    tuple: "list",
}


def describe_value(value: Any) -> str:
    """A value with its type in a reader's words: ``"abc" (text)``."""
    shown = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)
    return f"{shown if len(shown) < 80 else shown[:76] + ' ...'} ({_WORDS.get(type(value), type(value).__name__)})"


def expected(kind: Any) -> str:
    """A type in a reader's words."""
    arguments = get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in (Any, object):
        return "any value"
    if is_literal(kind):
        shown = ", ".join(f'"{a}"' if isinstance(a, str) else str(a) for a in arguments)
        return f"one of {shown}" if len(arguments) > 1 else shown
    if is_union(kind):
        return " or ".join(expected(member) for member in arguments)
    if is_tuple(kind):
        inner = expected(arguments[0]) if endless(kind) else ", ".join(map(expected, arguments))
        if endless(kind) and arguments[0] in (Any, object):
            return "a list"
        return f"a list ({inner} each)" if endless(kind) else f"a list of {len(arguments)} ({inner})"
    return "a table" if is_table(kind) else str(kind)


def is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def is_table(kind: Any) -> bool:
    return get_origin(kind) is dict


def is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def endless(kind: Any) -> bool:
    return get_args(kind)[1:] == (...,)
