"""The index of a root, from where it is kept, or made and kept."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mtl_taskonomy.index import Index, Watch, build, load, save

_BESIDE = Path(".mtl") / "taskonomy-index.npz"
"""Below the root; in a folder of its own, because a new file in the root would change the root's time of change."""

_rebuilt: set[Path] = set()
"""Roots that this process has listed again: ``rebuild`` means once, not once for each split."""


def open_index(root: Path, kept: Path | None = None, rebuild: bool = False) -> Index:
    """The index of a root, as it is now.

    It is kept in ``ROOT/.mtl/``, or where that cannot be written in ``MTL_CACHE`` or ``~/.cache/mtl``. One process at a
    time makes it; the others wait and read it.

    :param kept: another file to keep it in
    :param rebuild: list every folder, whatever is kept; once per process and root
    :raises DataError: there is no image below the root
    """
    relist = rebuild and root not in _rebuilt
    asked = time.time_ns()
    places = [kept] if kept else [root / _BESIDE, _in_cache(root)]
    if not relist and (index := _current(root, places)):
        return index
    place = _writable(places)
    with _locked(place):
        # another process may have made it while this one waited
        if index := _current(root, places, asked if relist else 0):
            return index
        index = _make(root, None if relist else _newest(places))
        if place:
            save(index, place)
    _tell(root, index, place)
    if relist:
        _rebuilt.add(root)
    return index


def _in_cache(root: Path) -> Path:
    """A file in the user's cache folder for this root."""
    cache = Path(os.environ.get("MTL_CACHE") or Path.home() / ".cache" / "mtl").expanduser()
    return cache / f"taskonomy-index-{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.npz"


def _current(root: Path, places: list[Path], since: int = 0) -> Index | None:
    """The first kept index that is still true.

    :param since: nanoseconds; one that was written before does not count
    """
    for place in places:
        index = load(place) if not since or _written_at(place) > since else None
        if index is not None and index.is_current(root):
            return index
    return None


def _newest(places: list[Path]) -> Index | None:
    """The index that was kept last, true or not."""
    place = max(places, key=_written_at)
    return load(place)


def _written_at(place: Path) -> int:
    """Nanoseconds; 0 where there is no such file."""
    return place.stat().st_mtime_ns if place.is_file() else 0


def _writable(places: list[Path]) -> Path | None:
    """The first place where a file can be written; its folder is made."""
    for place in places:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place.parent):
                return place
        except OSError:
            continue
    return None


@contextmanager
def _locked(place: Path | None) -> Iterator[None]:
    if place is None:
        yield
        return
    lock = FileLock(place.with_name(place.name + ".lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        console().print(f"taskonomy: another process makes the index {place}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(root: Path, known: Index | None) -> Index:
    columns = (
        TextColumn("taskonomy: listing {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    err = console()
    if not err.is_terminal:
        err.print(f"taskonomy: listing the folders of {root}")
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(str(root), total=None)
        watch: Watch = lambda done, of, name: bar.update(task, completed=done, total=of, description=name)  # noqa: E731
        return build(root, known, watch)


def _tell(root: Path, index: Index, place: Path | None) -> None:
    images = int(index.having("rgb").sum())
    alone = len(index.views) - images
    without = f" ({alone} more have labels and no image)" if alone else ""
    where = f"kept in {place}" if place else "kept nowhere, as no file can be written; set plugins.taskonomy.index"
    console().print(f"taskonomy: {images} images of {len(index.buildings)} buildings in {root}{without}; index {where}")


def console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
