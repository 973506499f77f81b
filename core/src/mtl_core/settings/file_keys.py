"""Names of plugins in plain files, as experiment files write them and as runs call them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_core.hooks.plain_file import KEY, origin


def short_name(key: str) -> str:
    """What a run calls a plugin: ``./my_idea.py:MyIdea#2`` is ``myidea#2``, other names stay."""
    found = KEY.fullmatch(key)
    return f"{found['cls'].lower()}{found['instance'] or ''}" if found else key


def key_of(name: str, plugin: object, anchored: bool = False) -> str:
    """What an experiment file calls a plugin of a run.

    :param anchored: write the path of its file; otherwise the file is expected beside the experiment
    """
    file = origin(plugin)
    cls = type(plugin).__qualname__
    if file is None or name.partition("#")[0] != cls.lower():
        return name
    _, separator, instance = name.partition("#")
    path = file.path.as_posix() if anchored else f"./{file.path.name}"
    return f"{path}:{cls}{separator}{instance}"


def anchor_files(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A document whose plugins in plain files are named by absolute paths.

    :param document: an experiment's or a suite's, with ``plugins`` at any depth
    :param folder: what its paths are relative to
    """
    anchored: dict[str, Any] = {}
    for key, value in document.items():
        if key == "plugins" and isinstance(value, Mapping):
            value = {_anchored(name, folder): table for name, table in value.items()}
        elif isinstance(value, Mapping):
            value = anchor_files(value, folder)
        anchored[key] = value
    return anchored


def _anchored(key: str, folder: Path) -> str:
    found = KEY.fullmatch(key)
    if not found:
        return key
    path = (folder / Path(found["path"]).expanduser()).resolve()
    return f"{path.as_posix()}:{found['cls']}{found['instance'] or ''}"
