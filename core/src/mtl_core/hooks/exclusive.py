"""Exclusive places, each filled by one plugin of an experiment. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mtl_core.errors import nearest
from mtl_core.hooks.spec_table import exclusive_hooks, hooks_of
from mtl_core.options.read import place

_Candidates = Mapping[str, list[str]]
"""Exclusive hook → the plugins that can fill it, in the experiment's order."""


def _hooks_filled_by(plugin: object) -> list[str]:
    """The hooks that an instance answers: its class's, or those of them in its property ``fills``."""
    hooks = hooks_of(type(plugin))
    return [hook for hook in hooks if hook in getattr(plugin, "fills", hooks)]


def _candidates(plugins: Mapping[str, object]) -> _Candidates:
    candidates: dict[str, list[str]] = {hook: [] for hook in exclusive_hooks()}
    for name, plugin in plugins.items():
        for hook in _hooks_filled_by(plugin):
            if hook in candidates:
                candidates[hook].append(name)
    return candidates


def choose(candidates: _Candidates, use: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """(the plugin in each place that has any, what is wrong with the choice)."""
    problems = _unknown_places(use)
    for hook, names in candidates.items():
        if hook in use and use[hook] not in names:
            problems.append(_unable(hook, use[hook], names))
    unsettled = {hook: names for hook, names in candidates.items() if hook not in use and len(names) > 1}
    problems += [_contested(hook, names) for hook, names in unsettled.items()]
    return {hook: use.get(hook, names[0]) for hook, names in candidates.items() if names}, problems


def _unknown_places(use: Mapping[str, object]) -> list[str]:
    known = exclusive_hooks()
    return [
        f"{place(f'use.{hook}', name)}: no exclusive hook of this name{nearest(hook, known)}"
        for hook, name in use.items()
        if hook not in known
    ]


def _unable(hook: str, name: str, candidates: Iterable[str]) -> str:
    others = f"expected one of {list(candidates)}" if candidates else "no plugin of the experiment does"
    return f'{place(f"use.{hook}", name)}: plugin "{name}" does not fill it; {others}'


def _contested(hook: str, names: list[str]) -> str:
    lines = " or ".join(f'{hook} = "{name}"' for name in names)
    number = "both" if len(names) == 2 else "all"
    return f"{hook}: {' and '.join(names)} {number} fill this place; choose one: [use] {lines}"


def check_use(use: object, plugins: Iterable[str]) -> list[str]:
    """What is wrong with the names in ``[use]``."""
    names = list(plugins)
    pairs = _named(use)
    absent = [
        f'{place(f"use.{hook}", name)}: the experiment has no plugin "{name}"{nearest(name, names)}'
        f" (it has: {', '.join(names)})"
        for hook, name in pairs.items()
        if name not in names
    ]
    return _unknown_places(pairs) + absent


def _named(use: object) -> dict[str, str]:
    """What can be read of ``[use]``."""
    return {hook: name for hook, name in use.items() if isinstance(name, str)} if isinstance(use, Mapping) else {}


def check_places(plugins: Mapping[str, object], use: object) -> list[str]:
    """What is wrong with who fills which place, as far as plugins could be made (the others are None)."""
    made = {name: plugin for name, plugin in plugins.items() if plugin is not None}
    pairs = _named(use)
    # a place whose chosen plugin could not be made is left out: that plugin has its own line already
    candidates = {hook: names for hook, names in _candidates(made).items() if pairs.get(hook, "") in ("", *made)}
    return choose(candidates, {hook: name for hook, name in pairs.items() if hook in candidates})[1]
