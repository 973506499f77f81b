"""Every mistake in a table of values for an attrs class. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from cattrs.errors import StructureHandlerNotFoundError

from mtl_core.errors import ContractError, nearest
from mtl_core.options.convert import Mismatch, Text, structure
from mtl_core.options.fields import kind_of, options
from mtl_core.options.type_names import expected


def read_options(
    cls: type, values: Mapping[str, Any], path: str = "", settings: Iterable[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Convert a table of values for ``cls``, and find every mistake in it.

    :param values: option → plain value
    :param path: where the table stands, such as ``"plugins.NAME"``
    :param settings: of the experiment, which a user may have written below the table's header
    :return: (the values that could be converted, one line for each mistake)
    """
    known = options(cls)
    prefix = f"{path}." if path else ""
    made: dict[str, Any] = {}
    problems = [
        f"{place(prefix + key, value)}: unknown {_word(path)}{_misplaced(key, value, known, settings)}"
        for key, value in values.items()
        if key not in known
    ]
    for name, option in known.items():
        if name in values:
            problems += _convert(cls, option, values[name], place(prefix + name, values[name]), made)
        elif option.default is attrs.NOTHING:
            problems.append(f"{prefix}{name}: missing; expected {expected(kind_of(cls, option))}{_about(option)}")
    where = {key: place(prefix + key, value) for key, value in values.items()}
    return made, problems + _invalid(cls, made, where)


def place(path: str, value: object) -> str:
    """Where a value was given: in the file, or on the command line."""
    return f"--set {path}" if isinstance(value, Text) else path


def _misplaced(key: str, value: object, known: Iterable[str], settings: Iterable[str]) -> str:
    if key not in settings:
        return _hint(key, known)
    remedy = f"--set {key}={value}" if isinstance(value, Text) else "write it above the first [plugins.…]"
    return f'{listing(known)}; "{key}" is a setting of the experiment: {remedy}'


def _word(path: str) -> str:
    return "option" if path else "setting"


def _hint(key: str, known: Iterable[str]) -> str:
    return nearest(key, known) or listing(known)


def listing(known: Iterable[str]) -> str:
    names = ", ".join(known)
    return f" (known: {names})" if names else " (it has no options)"


def _about(option: attrs.Attribute[Any]) -> str:
    text = option.metadata.get("help", "")
    return f" ({text})" if text else ""


def _convert(cls: type, option: attrs.Attribute[Any], value: Any, where: str, made: dict[str, Any]) -> list[str]:
    try:
        made[option.alias or option.name] = structure(value, kind_of(cls, option))
    except Mismatch as mismatch:
        return [f"{where}{below}: {text}" for below, text in mismatch.parts]
    except StructureHandlerNotFoundError as error:
        message = f"{cls.__qualname__}.{option.name}: an experiment file cannot carry the type {option.type!r}"
        raise ContractError(message) from error
    return []


def _invalid(cls: type, made: Mapping[str, Any], where: Mapping[str, str]) -> list[str]:
    """What the validators say of every converted value; those of other options do not keep them from running."""
    # the class is not called: attrs raises at the first value that a validator refuses, and this reports all of them
    probe: Any = object.__new__(cls)
    known = options(cls)
    for name, value in (_defaults(cls) | {known[key].name: value for key, value in made.items()}).items():
        # not setattr, which a frozen class refuses
        object.__setattr__(probe, name, value)
    found = []
    for key, value in made.items():
        try:
            if validator := known[key].validator:
                validator(probe, known[key], value)
        except AttributeError:
            continue  # it looks at an option that is wrong itself and reported already
        except (ValueError, TypeError) as error:
            found.append(f"{where[key]}: {_plain(error, known[key].name, value)}")
    return found


def what_is_wrong(cls: type, values: Mapping[str, Any]) -> list[str]:
    """Every mistake in what a class was called with; none where an option is of a type that no file could carry."""
    try:
        return read_options(cls, values)[1]
    except ContractError:
        return []


def _defaults(cls: type) -> dict[str, Any]:
    plain_ones = {a.name: a.default for a in options(cls).values() if a.default is not attrs.NOTHING}
    return {name: value for name, value in plain_ones.items() if not isinstance(value, attrs.Factory)}  # type: ignore[arg-type]


def _plain(error: Exception, name: str, value: Any) -> str:
    """A validator's message without the option's name, which the path shows, and with the value named as found."""
    text = str(error.args[0] if error.args else error).removeprefix(f"'{name}' ")
    for part in value if isinstance(value, tuple) else (value,):
        if text.endswith(f": {part}"):
            return f"{text.removesuffix(f': {part}')}, found {part!r}"
    return text
