"""Settings in which two experiments differ, read from their documents. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

_Document = Mapping[str, Any]
"""An experiment as TOML has it, complete with defaults."""

MAY_CHANGE = ("epochs", "workers", "checkpoint_steps", "device", "plugins.*.root")
"""Settings that a resume may change, as patterns: they do not change what was computed; of epochs, see
:func:`_other_rates`.
"""

MACHINE = (
    "device", "strategy", "workers", "checkpoint_steps", "channels_last", "compile", "cudnn_benchmark", "deterministic",
    "plugins.*.root",
)  # fmt: skip
"""Settings that differ between machines on which one experiment runs."""


def differing(old: _Document, new: _Document, free: Collection[str] = MAY_CHANGE) -> list[str]:
    """Settings that keep a run from being resumed with others, each with both values.

    :param free: settings that may differ; of ``epochs`` only where the rates of the epochs that are done stay the same
    """
    before = _located(old)
    after = _located(new)
    changed = [key for key in before | after if not is_free(key, free) and before.get(key) != after.get(key)]
    return [*(_both(key, before, after) for key in changed), *(_other_rates(before, after) if "epochs" in free else ())]


def _other_rates(before: _Document, after: _Document) -> list[str]:
    """What is wrong with another number of epochs: every schedule but the constant one is laid over all of them."""
    schedule = before.get("schedule", "constant")
    if before.get("epochs") == after.get("epochs") or schedule == "constant":
        return []
    changed = _both("epochs", before, after)
    return [f'{changed}: schedule "{schedule}" would have had other rates in the epochs that are done']


def unlike(old: _Document, new: _Document, free: Iterable[str] = ()) -> list[str]:
    """Settings by which two runs are not of one experiment, each with both values.

    A setting that one of them lacks is newer than that run, and left out.

    :param free: patterns of settings that may differ, besides those of :data:`MACHINE`
    """
    before, after = (_essential(document, (*MACHINE, *free)) for document in (old, new))
    return [_both(key, before, after) for key in before if key in after and before[key] != after[key]]


def _essential(document: _Document, free: Iterable[str]) -> dict[str, Any]:
    """Flat settings without the free ones; of the plugins their order too; other tables as they are."""
    patterns = tuple(free)
    # a chain calls plugins in the order of the file: another order is another experiment
    whole = {key: value for key, value in document.items() if isinstance(value, Mapping) and key != "plugins"}
    rest = {key: value for key, value in document.items() if key not in whole}
    settings = {key: value for key, value in (_located(rest) | whole).items() if not is_free(key, patterns)}
    return settings | ({"plugins": ", ".join(document["plugins"])} if "plugins" in document else {})


def is_free(key: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _located(document: _Document) -> dict[str, Any]:
    """Flat settings; of a ``path`` the file's name: on another machine the file lies elsewhere."""
    return {
        key: Path(value).name if key.endswith(".path") and isinstance(value, str) else value
        for key, value in _flat(document).items()
    }


def _flat(table: _Document, path: str = "") -> dict[str, Any]:
    """Nested tables as ``plugins.name.option`` → value; a table without entries is a key of its own."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        nested = isinstance(value, Mapping) and value
        found |= _flat(value, f"{path}{key}.") if nested else {f"{path}{key}": value}
    return found


def _both(key: str, before: _Document, after: _Document) -> str:
    return f"{key} was {before.get(key, 'absent')}, now {after.get(key, 'absent')}"
