"""The folder of caches: where it is, how large it may become, and which files make room for others."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from mtl_core import MtlError

GIB = 2**30
_LIMIT = 64.0
"""GiB of all caches together, unless ``MTL_CACHE_LIMIT`` says otherwise."""
ENDING = ".samples"
_FORGOTTEN = 86400
"""Seconds after which a half-written file is one that a killed process left."""


def cache_folder() -> Path:
    """``MTL_CACHE``, or ``~/.cache/mtl``; it need not exist.

    :raises OSError: there is no home folder
    """
    if given := os.environ.get("MTL_CACHE"):
        return Path(given).expanduser().absolute()
    try:
        return Path.home() / ".cache" / "mtl"
    except RuntimeError as error:
        raise OSError(str(error)) from error


def cache_limit() -> int:
    """Bytes of all caches together: ``MTL_CACHE_LIMIT`` in GiB.

    :raises MtlError: it is not a number above or equal to 0
    """
    given = os.environ.get("MTL_CACHE_LIMIT", "").strip() or str(_LIMIT)
    try:
        limit = float(given)
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise MtlError(f'MTL_CACHE_LIMIT: expected a size in GiB such as "{_LIMIT:g}", found "{given}"')
    return int(min(limit, 1e9) * GIB)


def _caches(folder: Path) -> list[tuple[float, int, Path]]:
    """(time of last use, bytes, file) of every cache, the one that was used last at the end."""
    found = []
    for path in folder.glob(f"*{ENDING}"):
        try:
            about = path.stat()
        except FileNotFoundError:
            continue  # another process removed it
        found.append((about.st_mtime, about.st_size, path))
    return sorted(found)


def make_room(folder: Path, size: int, limit: int) -> None:
    """Remove the caches that were not used for longest, until ``size`` more bytes are within the limit.

    A process that reads a cache goes on reading it: its pages stay until the process closes it.
    """
    found = _caches(folder)
    total = sum(taken for _, taken, _ in found)
    for _, taken, path in found:
        if total + size <= limit:
            return
        path.unlink(missing_ok=True)
        total -= taken


def remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def remove_forgotten(folder: Path) -> None:
    """Remove half-written files of processes that were killed."""
    for path in folder.glob(".*.part"):
        try:
            if time.time() - path.stat().st_mtime > _FORGOTTEN:
                path.unlink()
        except FileNotFoundError:
            continue
