"""What the hook specs say: names, arguments, which hooks are exclusive. Imports no torch."""

from __future__ import annotations

import inspect

from mtl_core.hooks import hookspecs


def hooks_of(cls: type) -> tuple[str, ...]:
    """The hooks that a plugin's class implements, in the order of a run."""
    return tuple(name for name in hook_arguments() if hasattr(getattr(cls, name, None), "mtl_impl"))


def exclusive_hooks() -> list[str]:
    return [name for name, spec in vars(hookspecs).items() if getattr(spec, "mtl_spec", {}).get("firstresult")]


def hook_arguments() -> dict[str, tuple[str, ...]]:
    """Every hook's name with the names of its arguments, in the order of a run."""
    # vars keeps the order of the file, which is the order of a run
    marked = {name: f for name, f in vars(hookspecs).items() if hasattr(f, "mtl_spec")}
    return {name: tuple(inspect.signature(f).parameters) for name, f in marked.items()}
