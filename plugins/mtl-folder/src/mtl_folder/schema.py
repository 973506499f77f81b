"""Tables of a TOML file as attrs classes, and every mistake in them as one line.

A field's metadata may have ``check``: a function that takes the value and raises ``ValueError`` with what is wrong.
A class may have a method ``mistakes`` that gives (key, what is wrong) for what concerns several of its fields.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs
import cattrs

from mtl_core import nearest

_Part = tuple[str, str]
"""(path below a value such as ``".ignored"``, what is wrong there)"""
_Check = Callable[[Any], None]

_WORDS = {
    bool: "boolean",
    int: "whole number",
    float: "number",
    str: "text",
    dict: "table",
    list: "list",
    tuple: "list",
}
_EXPECTED = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "none"}


class Wrong(ValueError):
    """A value that is not what the schema asks for.

    :param parts: one for every mistake in it
    """

    def __init__(self, *parts: _Part) -> None:
        self.parts = parts
        super().__init__("; ".join(text for _, text in parts))


def key(help: str, check: _Check | None = None) -> dict[str, Any]:
    """Metadata of a field that a user writes."""
    return {"help": help, "check": check}


def structure(value: object, kind: Any) -> Any:
    """The value as ``kind``.

    :param value: as TOML gives it
    :param kind: a plain type, ``Literal``, tuple, dict with text keys, union of these, or attrs class
    :raises Wrong: with every mistake in it
    """
    return _CONVERTER.structure(value, kind)


def lines(path: str, wrong: Wrong) -> list[str]:
    """The mistakes of a value that stands at ``path``, each with its key."""
    return [f"{path}{below}: {text}".removeprefix(".") for below, text in wrong.parts]


def show(value: object) -> str:
    """A value with its type in a reader's words: ``"abc" (text)``."""
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)
    shortened = text if len(text) < 60 else f"{text[:56]} ..."
    return f"{shortened} ({_WORDS.get(type(value), type(value).__name__)})"


def expected(kind: Any) -> str:
    """A type in a reader's words."""
    members = get_args(kind)
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if get_origin(kind) is Literal:
        texts = [f'"{member}"' if isinstance(member, str) else str(member) for member in members]
        return f"one of {', '.join(texts)}" if len(texts) > 1 else texts[0]
    if _is_union(kind):
        return " or ".join(expected(member) for member in members if member is not NoneType)
    if get_origin(kind) is tuple:
        return f"a list ({expected(members[0])} each)" if members[-1] is ... else f"a list of {len(members)} numbers"
    return "a table"


def fields(cls: type) -> dict[str, attrs.Attribute[Any]]:
    """The keys that a user may write in a table, by name."""
    return {field.name: field for field in attrs.fields(cls) if field.init}


def unknown_key(name: str, known: Iterable[str]) -> str:
    return f"unknown key{nearest(name, known) or ' (known: ' + ', '.join(known) + ')'}"


def _has_origin(origin: Any) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) == origin


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def _refuse(value: object, kind: Any, remedy: str = "") -> Wrong:
    return Wrong(("", f"expected {expected(kind)}, found {show(value)}{remedy}"))


def _exactly(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _refuse(value, kind)
    return value


def _number(value: Any, kind: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise _refuse(value, kind)
    return float(value)


def _literal(value: Any, kind: Any) -> Any:
    known = get_args(kind)
    if value not in known or isinstance(value, bool):
        raise _refuse(value, kind, nearest(str(value), [name for name in known if isinstance(name, str)]))
    return value


def _union(value: Any, kind: Any) -> Any:
    """The first member that takes the value; whole numbers before others, so that 4 stays 4."""
    refused = []
    for member in sorted(get_args(kind), key=lambda member: (member is not int, member is float)):
        if member is NoneType:
            continue
        try:
            return structure(value, member)
        except Wrong as wrong:
            refused.append(wrong)
    inside = [wrong for wrong in refused if any(path for path, _ in wrong.parts)]
    raise inside[0] if inside else _refuse(value, kind)


def _items(value: Any, kind: Any) -> tuple[Any, ...]:
    kinds = get_args(kind)
    if not isinstance(value, list | tuple):
        raise _refuse(value, kind)
    if kinds[-1] is ...:
        kinds = kinds[:1] * len(value)
    if len(value) != len(kinds):
        raise _refuse(value, kind)
    return tuple(_every({f"[{i}]": pair for i, pair in enumerate(zip(value, kinds, strict=True))}).values())


def _table(value: Any, kind: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _refuse(value, kind)
    made = _every({f".{name}": (item, get_args(kind)[1]) for name, item in value.items()})
    return {name.removeprefix("."): item for name, item in made.items()}


def _every(parts: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Structure every part, and collect the mistakes of all."""
    made: dict[str, Any] = {}
    mistakes: list[_Part] = []
    for path, (value, kind) in parts.items():
        try:
            made[path] = structure(value, kind)
        except Wrong as wrong:
            mistakes += [(path + below, text) for below, text in wrong.parts]
    if mistakes:
        raise Wrong(*mistakes)
    return made


def _class(value: Any, cls: Any) -> Any:
    """An attrs class from a table: unknown, missing and mistyped keys, then what concerns several of them."""
    if not isinstance(value, Mapping):
        raise _refuse(value, cls)
    made: dict[str, Any] = {}
    mistakes = [*_unknown(value, cls), *_fill(value, cls, made)]
    if mistakes:
        raise Wrong(*mistakes)
    built = cls(**made)
    if found := [(f".{name}", text) for name, text in getattr(built, "mistakes", tuple)()]:
        raise Wrong(*found)
    return built


def _unknown(value: Mapping[str, Any], cls: type) -> Iterator[_Part]:
    known = fields(cls)
    for name in value:
        if name not in known:
            yield f".{name}", unknown_key(name, known)


def _fill(value: Mapping[str, Any], cls: type, made: dict[str, Any]) -> Iterator[_Part]:
    """Structure the keys that a table has into ``made``; their mistakes."""
    types = get_type_hints(cls)
    for name, field in fields(cls).items():
        if name not in value:
            if field.default is attrs.NOTHING:
                wanted = f"{expected(types[name])}: {field.metadata['help']}"
                yield f".{name}", f"missing; expected {wanted}"
            continue
        try:
            made[name] = _checked(structure(value[name], types[name]), field)
        except Wrong as wrong:
            yield from ((f".{name}{below}", text) for below, text in wrong.parts)


def _checked(value: Any, field: attrs.Attribute[Any]) -> Any:
    check = field.metadata.get("check")
    try:
        if check is not None:
            check(value)
    except ValueError as error:
        raise Wrong(("", str(error))) from None
    return value


def _make_converter() -> cattrs.Converter:
    made = cattrs.Converter(detailed_validation=False)
    for kind in (bool, int, str):
        made.register_structure_hook(kind, _exactly)
    made.register_structure_hook(float, _number)
    made.register_structure_hook_func(attrs.has, _class)
    for origin, hook in ((Literal, _literal), (tuple, _items), (dict, _table)):
        made.register_structure_hook_func(_has_origin(origin), hook)
    made.register_structure_hook_func(_is_union, _union)
    return made


_CONVERTER = _make_converter()
