"""The plugin or kind of task that a name means: an installed one, or a class in a plain file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from mtl_core import MtlError, Task, installed_plugins, nearest, read_options

_TASKS = "mtl.tasks"


def find(name: str) -> type[Any]:
    """A plugin's class, or a kind of task.

    :param name: an installed plugin, a kind of task of the entry-point group ``mtl.tasks``, or ``file.py``, with
        ``:Class`` behind it where the file has several
    :raises MtlError: there is none, or it cannot be imported
    """
    path, _, attribute = name.partition(":")
    if path.endswith(".py"):
        return _in_file(Path(path), attribute)
    plugins = {found.name: found.value for found in installed_plugins()}
    kinds = {entry.name: entry.value for entry in entry_points(group=_TASKS)}
    known = {**kinds, **plugins}
    if name not in known:
        raise MtlError(
            f'there is no plugin "{name}"{nearest(name, known)}; `mtl plugins` lists what is installed, and a plain'
            " file is given as ./file.py"
        )
    module, _, attribute = known[name].partition(":")
    try:
        cls: type[Any] = _attribute(importlib.import_module(module), attribute)
    except Exception as error:
        raise MtlError(f"{name}: {known[name]} cannot be imported: {type(error).__name__}: {error}") from error
    return cls


def _attribute(made: Any, path: str) -> Any:
    for part in path.split("."):
        made = getattr(made, part)
    return made


def _in_file(path: Path, name: str) -> type[Any]:
    """The class of a plain file that is declared with ``@plugin``, or derives from ``Task``."""
    module = _load(path)
    classes: dict[str, type[Any]] = {
        key: value for key, value in vars(module).items() if _is_ours(value, module.__name__)
    }
    if name and name not in classes:
        raise MtlError(f"{path}: there is no plugin class {name!r}{nearest(name, classes)} (it has: {_list(classes)})")
    if not name and len(classes) != 1:
        raise MtlError(
            f"{path}: expected one class that is declared with @plugin or derives from Task, found"
            f" {_list(classes)}; name one: {path}:NAME"
        )
    return classes[name] if name else next(iter(classes.values()))


def _list(classes: dict[str, type[Any]]) -> str:
    return ", ".join(classes) or "none"


def _is_ours(value: object, module: str) -> bool:
    if not isinstance(value, type) or value.__module__ != module:
        return False
    return "mtl_hook_version" in vars(value) or issubclass(value, Task)


def _load(path: Path) -> Any:
    """A plain file as a module."""
    if not path.is_file():
        raise MtlError(f"{path}: there is no such file")
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise MtlError(f"{path}: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # classes of the file are pickled by its name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise MtlError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from error
    return module


def make(cls: type[Any], name: str, overrides: Sequence[str]) -> Any:
    """An instance with options of the command line.

    :param overrides: ``OPTION=VALUE``
    :raises MtlError: an option that does not exist, or has a wrong value
    """
    given: dict[str, Any] = {}
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator:
            raise MtlError(f"--set {text}: expected OPTION=VALUE")
        given[key.strip()] = _parsed(value)
    options, problems = read_options(cls, given, name)
    if problems:
        raise MtlError(f"{name}: {'; '.join(problems)}")
    try:
        return cls(**options)
    except (TypeError, ValueError) as error:
        raise MtlError(f"{name}: {error}") from error


def _parsed(text: str) -> Any:
    """A value as TOML reads it; a word without quotes is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
