"""The fields of an attrs class that a user sets. Imports no torch."""

from __future__ import annotations

import inspect
import sys
import typing
from types import SimpleNamespace
from typing import Any

import attrs

from mtl_core.errors import ContractError


def options(cls: type) -> dict[str, attrs.Attribute[Any]]:
    """The fields that a user sets, by name."""
    return {a.alias or a.name: a for a in attrs.fields(cls) if a.init}


def kind_of(cls: type, option: attrs.Attribute[Any]) -> Any:
    """The type of one option, with annotations that are text evaluated where they were written.

    :raises ContractError: the type has no meaning there
    """
    if not isinstance(option.type, str):
        return option.type
    # an inherited option is evaluated with the imports of the module that declares it
    owner = next((c for c in cls.__mro__ if option.name in inspect.get_annotations(c)), cls)
    names = {**vars(typing), **vars(sys.modules.get(owner.__module__, typing))}
    # this annotation alone: get_type_hints(cls) fails for every option where one attribute's type is for checkers only
    alone = SimpleNamespace(__annotations__={option.name: option.type})
    try:
        return typing.get_type_hints(alone, names)[option.name]
    except (NameError, SyntaxError, TypeError, AttributeError) as error:
        raise ContractError(f"{cls.__qualname__}.{option.name}: type {option.type!r}: {error}") from error


def help(text: str) -> dict[str, str]:
    """Metadata of a field: the line that listings and reference pages show beside an option."""
    return {"help": text}
