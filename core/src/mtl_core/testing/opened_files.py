"""Which files a reader opens."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_listening: list[list[Path]] = []
_hooked = False


@contextmanager
def opened_files(below: Path) -> Iterator[list[Path]]:
    """The files that this process opens meanwhile, in their order, relative to a folder; others are left out.

    Files that a library of C opens by itself, such as HDF5, are not seen.
    """
    global _hooked
    if not _hooked:  # an audit hook cannot be taken away again
        sys.addaudithook(_audit)
        _hooked = True
    found: list[Path] = []
    _listening.append(found)
    try:
        yield found
    finally:
        _listening.remove(found)
        folder = below.absolute()
        found[:] = [path.relative_to(folder) for path in found if path.is_relative_to(folder)]


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _listening and isinstance(arguments[0], str | os.PathLike):
        for found in _listening:
            found.append(Path(arguments[0]).absolute())
