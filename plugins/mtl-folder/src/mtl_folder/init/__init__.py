"""``mtl data init``: look at a folder and guess its description."""

from __future__ import annotations

from pathlib import Path

from mtl_folder.init.plan import Plan, look

__all__ = ["Plan", "describe", "look"]


def describe(folder: Path | str) -> str:
    """The text of a ``mtl-folder.toml`` for a folder, with a comment behind each guess.

    :raises DataError: there is no such folder, or no images in it
    """
    return look(Path(folder)).toml()
