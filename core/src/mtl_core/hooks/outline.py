"""What an installed plugin is for, read from its source: nothing is imported. Imports no torch."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path

import attrs

from mtl_core.discovery import InstalledPlugin
from mtl_core.hooks.spec_table import hook_arguments

PLACES = {
    "build_dataset": "data set",
    "build_extra_datasets": "further data",
    "make_label_mask": "label scenario",
    "relabel": "labels from teachers",
    "transform_sample": "geometry",
    "augment": "photometry",
    "build_backbone": "network",
    "build_heads": "network",
    "shape_encoder_gradient": "gradient shaper",
    "combine_losses": "loss rule",
    "compute_regularizer": "regularizer",
    "watch_encoder_gradient": "gradient watcher",
    "before_step": "look-ahead",
    "after_step": "look-ahead",
    "parameter_groups": "optimizer",
    "after_epoch": "logger",
    "after_run": "logger",
}
"""Hook → the place of a plugin that has it; of several hooks the first in this table counts."""


@attrs.frozen
class Outline:
    """What a plugin's source says.

    :param place: in the step, such as ``loss rule``; empty where it is unknown
    :param summary: the first line of the class's docstring
    """

    place: str = ""
    summary: str = ""


def outline_of(found: InstalledPlugin) -> Outline:
    """Place and summary of an installed plugin; empty where its source is not to be found."""
    module, _, name = found.value.partition(":")
    try:
        source = _file_of(module)
        classes = list(_classes(source, name, set())) if source else []
    except (OSError, ValueError, SyntaxError, ImportError):
        return Outline()
    if not classes:
        return Outline()
    lines = inspect.cleandoc(ast.get_docstring(classes[0]) or "").splitlines()
    hooks = {hook for cls in classes for hook in _hooks(cls)}
    place = next((place for hook, place in PLACES.items() if hook in hooks), "")
    return Outline(place, lines[0] if lines else "")


def _file_of(module: str) -> Path | None:
    """The file of a module. Only the outermost package is asked for, which imports nothing."""
    top, *below = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        return None
    return _below(Path(spec.origin).parent, below) if below else Path(spec.origin)


def _below(folder: Path, names: list[str]) -> Path | None:
    path = folder.joinpath(*names)
    options = (path.with_suffix(".py"), path / "__init__.py")
    return next((option for option in options if option.is_file()), None)


def _classes(file: Path, name: str, seen: set[tuple[Path, str]]) -> Iterator[ast.ClassDef]:
    """The class of a name in a file, then those of its package that it derives from."""
    if (file, name) in seen:
        return
    # two files may import from each other
    seen.add((file, name))
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield node
            for base in node.bases:
                if isinstance(base, ast.Name):
                    yield from _classes(file, base.id, seen)
        elif isinstance(node, ast.ImportFrom):
            original = next((alias.name for alias in node.names if (alias.asname or alias.name) == name), None)
            other = _imported(file, node)
            if original and other:
                yield from _classes(other, original, seen)


def _imported(file: Path, node: ast.ImportFrom) -> Path | None:
    """The file of the same package that a statement imports from."""
    names = (node.module or "").split(".") if node.module else []
    if node.level:
        folder = file.parent
        for _ in range(node.level - 1):
            folder = folder.parent
        return _below(folder, names)
    package = next((parent for parent in file.parents if names and parent.name == names[0]), None)
    return _below(package, names[1:]) if package and len(names) > 1 else None


def _hooks(cls: ast.ClassDef) -> Iterator[str]:
    """The hooks that a class implements."""
    known = hook_arguments()
    for node in cls.body:
        marked = isinstance(node, ast.FunctionDef) and any(
            isinstance(decorator, ast.Name) and decorator.id == "hookimpl" for decorator in node.decorator_list
        )
        if isinstance(node, ast.FunctionDef) and marked and node.name in known:
            yield node.name
