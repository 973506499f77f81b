"""Strict conversion of plain values (TOML, Python, command line) into the types of options.

Nothing is converted that a reader would not expect: no "false" → True, no 2.7 → 2, no "abc" → ("a", "b", "c"). The one
widening is int → float. None is written ``"none"``, as TOML has no null.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args

import cattrs

from mtl_core.errors import nearest
from mtl_core.options.type_names import describe_value, endless, expected, is_literal, is_table, is_tuple, is_union


class Text(str):
    """A value from the command line, whose type only the option knows."""


class Mismatch(ValueError):
    """A value that is not of the option's type.

    :param parts: (path below the option such as ``"[2]"``, what is wrong) for every wrong part
    """

    def __init__(self, *parts: tuple[str, str]) -> None:
        self.parts = parts
        super().__init__("; ".join(text for _, text in parts))


def structure(value: Any, kind: Any) -> Any:
    """The value as ``kind``.

    :param value: plain value, or :class:`Text`
    :param kind: bool, int, float, str, Literal, tuple, dict with text keys, or a union of these and None
    :raises Mismatch: the value is of another type
    :raises cattrs.errors.StructureHandlerNotFoundError: TOML cannot carry ``kind``
    """
    return _from_text(value, kind) if isinstance(value, Text) else _CONVERTER.structure(value, kind)


def _from_text(text: Text, kind: Any) -> Any:
    """Read ``text`` as TOML, as it stands, or as a list without brackets: the first reading that the type admits."""
    readings = [*_toml(text), str(text)]
    if is_tuple(kind) or any(map(is_tuple, get_args(kind))):
        readings += [*_toml(f"[{text}]"), [part.strip() for part in text.split(",")]]
    refused = []
    for reading in readings:
        try:
            return _CONVERTER.structure(reading, kind)
        except Mismatch as mismatch:
            refused.append(mismatch)
    # the first reading is TOML, which the user most likely meant: its message fits best
    raise refused[0]


def _toml(text: str) -> list[Any]:
    try:
        return [tomllib.loads(f"value = {text}")["value"]]
    except (tomllib.TOMLDecodeError, RecursionError):
        return []


def _refuse(value: Any, kind: Any, remedy: str = "") -> Mismatch:
    return Mismatch(("", f"expected {expected(kind)}, found {describe_value(value)}{remedy}"))


def _exactly(value: Any, kind: Any) -> Any:
    if kind is NoneType and (value is None or value == "none"):
        return None
    # bool is a subclass of int: without the second test `epochs = true` would train one epoch
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _refuse(value, kind)
    return value


def _number(value: Any, kind: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refuse(value, kind)
    try:
        converted = float(value)
    except OverflowError:
        raise _refuse(value, kind) from None
    # a comparison with NaN is False, so that an option without a lower bound would accept it
    if math.isnan(converted):
        raise _refuse(value, kind)
    return converted


def _literal(value: Any, kind: Any) -> Any:
    options = get_args(kind)
    for option in options:
        # 1 == True in Python, but `classes = true` in a file is a mistake
        if option == value and isinstance(value, bool) == isinstance(option, bool):
            return option
    raise _refuse(value, kind, nearest(str(value), [option for option in options if isinstance(option, str)]))


def _union(value: Any, kind: Any) -> Any:
    """The member that admits the value; None goes before text, so that "none" means None, but after a Literal."""
    members = sorted(get_args(kind), key=_rank)
    refused = []
    for member in members:
        try:
            return _CONVERTER.structure(value, member)
        except Mismatch as mismatch:
            refused.append(mismatch)
    # a mistake inside of a member, such as one entry of a list, says more than "expected a list or none"
    inside = [mismatch for mismatch in refused if any(path for path, _ in mismatch.parts)]
    raise inside[0] if inside else _refuse(value, kind)


def _rank(member: Any) -> int:
    order = (is_literal(member), member is NoneType, member is bool, member is int, member is float)
    return order.index(True) if True in order else len(order)


def _items(value: Any, kind: Any) -> tuple[Any, ...]:
    kinds = get_args(kind)
    if not isinstance(value, list | tuple):
        raise _refuse(value, kind)
    if endless(kind):
        kinds = (kinds[0],) * len(value)
    elif len(value) != len(kinds):
        raise Mismatch(("", f"expected {expected(kind)}, found {len(value)}: {describe_value(value)}"))
    return tuple(_every({f"[{i}]": pair for i, pair in enumerate(zip(value, kinds, strict=True))}).values())


def _table(value: Any, kind: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _refuse(value, kind)
    made = _every({f".{key}": (part, get_args(kind)[1]) for key, part in value.items()})
    return {key[1:]: part for key, part in made.items()}


def _every(parts: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Structure every part, and report every part that cannot be."""
    made = {}
    wrong = []
    for path, (value, kind) in parts.items():
        try:
            made[path] = structure(value, kind)
        except Mismatch as mismatch:
            wrong += [(path + below, text) for below, text in mismatch.parts]
    if wrong:
        raise Mismatch(*wrong)
    return made


def _make_converter() -> cattrs.Converter:
    # detailed validation would wrap each refusal in exception groups, with its path as text in a note
    made = cattrs.Converter(detailed_validation=False)
    for kind in (bool, int, str, NoneType):
        made.register_structure_hook(kind, _exactly)
    made.register_structure_hook(float, _number)
    made.register_structure_hook_func(is_literal, _literal)
    made.register_structure_hook_func(is_union, _union)
    made.register_structure_hook_func(is_tuple, _items)
    made.register_structure_hook_func(is_table, _table)
    return made


_CONVERTER = _make_converter()
