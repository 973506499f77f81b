"""Plugins in plain files beside an experiment: loaded by their path, without touching ``sys.path``.

A file becomes a module below this one, whose name holds the path: other processes that unpickle what is defined there,
such as the loader's workers, find the file by it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

import attrs

from mtl_core.errors import ContractError, Terminated, nearest
from mtl_core.hooks.load import cause
from mtl_core.hooks.markers import HOOK_VERSION
from mtl_core.hooks.spec_table import hooks_of

__path__: list[str] = []  # lets this module have modules below it; they are found by _Files alone

KEY = re.compile(r"(?P<path>[^#]+\.py):(?P<cls>[^\W\d]\w*)(?P<instance>#[\w-]+)?")
"""The name of a plugin in a file: ``./my_idea.py:MyIdea``, a second instance of it ``./my_idea.py:MyIdea#2``."""


@attrs.frozen
class Origin:
    """Where a plugin's class comes from; the class has it as the attribute ``mtl_file``.

    :param path: absolute
    :param text: what the file held when it was loaded
    """

    path: Path
    text: bytes

    @property
    def digest(self) -> str:
        """The first half of the text's SHA-256, in hexadecimal digits."""
        return hashlib.sha256(self.text).hexdigest()[:32]


def origin(plugin: object) -> Origin | None:
    """The file that a plugin's class comes from; None for one of a distribution, or defined in Python."""
    found: Origin | None = getattr(type(plugin), "mtl_file", None)
    return found


def origins(plugins: Mapping[str, object]) -> dict[str, Origin]:
    """Name of a plugin in an experiment → its file, of those that come from one."""
    found = {name: origin(plugin) for name, plugin in plugins.items()}
    return {name: one for name, one in found.items() if one is not None}


def load_from_file(path: Path, name: str) -> type[Any]:
    """Import a plugin's class from a plain file.

    :param path: of the file
    :param name: of the class
    :raises ContractError: there is no such file or class, the file cannot be imported, or the class is no plugin; one
        line
    """
    path = path.resolve()
    module = _load_module(path)
    cls = getattr(module, name, None)
    if cls is None:
        classes = [key for key, value in vars(module).items() if "mtl_hook_version" in getattr(value, "__dict__", {})]
        has = f"it has: {', '.join(classes)}" if classes else "it has no plugin"
        raise ContractError(f"{path}: there is no class {name!r}{nearest(name, classes)} ({has})")
    _check_class(cls, path, name)
    return cls  # type: ignore[no-any-return]


def _load_module(path: Path) -> ModuleType:
    """The module of a file; one that has changed since it was loaded is loaded again."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        others = [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise ContractError(f"there is no file {path}{nearest(path.name, others)}") from None
    except OSError as error:
        raise ContractError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        module = importlib.import_module(_module_name(path, text))
    except (KeyboardInterrupt, Terminated):
        raise
    except BaseException as error:  # a file may even leave the process while it is imported
        raise ContractError(f"{path}{_line(error, path)}: cannot be imported: {cause(error)}{_hint(error)}") from error
    # only classes that the file defines itself: what it imports comes from elsewhere
    for value in list(vars(module).values()):
        if isinstance(value, type) and value.__module__ == module.__name__ and "mtl_hook_version" in vars(value):
            value.mtl_file = Origin(path, text)  # type: ignore[attr-defined]
    return module


def _module_name(path: Path, text: bytes) -> str:
    # with its content: a file that has changed is another module, which is not loaded yet
    stem = re.sub(r"\W", "_", path.stem)
    content = hashlib.sha256(text).hexdigest()[:8]
    return f"{__name__}.{stem}_{content}_{str(path).encode().hex()}"


class _Loader(SourceFileLoader):
    """Compiles the text as it is: a cached file would stand for an edit within the same second."""

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _Files(MetaPathFinder):
    """Finds the file of a module by the path in its name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{__name__}."):
            return None
        file = Path(bytes.fromhex(fullname.rpartition("_")[2]).decode())
        return importlib.util.spec_from_file_location(fullname, file, loader=_Loader(fullname, str(file)))


# by name: where this module is loaded again, the class is another object
if not any(type(finder).__qualname__ == _Files.__qualname__ for finder in sys.meta_path):
    sys.meta_path.append(_Files())


def _line(error: BaseException, path: Path) -> str:
    """``:LINE`` of the file, where the error says it."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f":{error.lineno}"
    lines = [trace.tb_lineno for trace in _traces(error) if trace.tb_frame.f_code.co_filename == str(path)]
    return f":{lines[-1]}" if lines else ""


def _traces(error: BaseException) -> list[TracebackType]:
    found = list[TracebackType]()
    trace = error.__traceback__
    while trace is not None:
        found.append(trace)
        trace = trace.tb_next
    return found


def _hint(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return "; install it (files beside this one are not found: put what it needs into it)"
    return ""


def _check_class(cls: Any, path: Path, name: str) -> None:
    built = vars(cls).get("mtl_hook_version") if isinstance(cls, type) else None
    if built is None:
        raise ContractError(f"{path}: {name} is not a class declared with @plugin; write @plugin above it")
    if built != HOOK_VERSION:
        raise ContractError(f"{path}: {name} is written for hook version {built}, this core has {HOOK_VERSION}")
    if not hooks_of(cls):
        raise ContractError(f"{path}: {name} has no @hookimpl method, so that nothing would ever call it")
