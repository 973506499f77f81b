"""Which views a root has, and which domains each of them: numbers, not paths.

Shape letters: N views.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from mtl_core import DataError, write_atomically
from mtl_taskonomy.domains import BIT, DOMAINS, FILE
from mtl_taskonomy.folders import Folder, find_folders

_VERSION = 1
_VIEW = np.dtype([("building", "<u2"), ("point", "<i4"), ("view", "<i4"), ("domains", "<u2")])
"""A view, 12 bytes: number of its building, its numbers in file names, a bit for each domain that it has."""
_SETTLED = 2_000_000_000
"""Nanoseconds. A folder that changed less than this before it was listed may change again with the same time."""
_UNSETTLED = -1

_Keys = NDArray[np.int64]
"""Point and view of some files in one number each, sorted."""
Watch = Callable[[int, int, str], object]
"""Called with the number of folders that are listed, of how many, and the building's name."""


@attrs.frozen
class Listed:
    """A domain's folder of one building.

    :param written: the domain's name in the folder's file names; "" where it has no file
    :param changed: the folder's time of change in nanoseconds, or UNSETTLED
    """

    building: str
    domain: str
    path: str
    written: str
    changed: int


@attrs.frozen(eq=False)
class Index:
    """The views of a root, sorted by building, point and view.

    :param views: (N,) of VIEW; a view without the domain rgb is one of which only labels exist
    :param above: folder in which others were looked for → its time of change, or UNSETTLED
    """

    views: NDArray[np.void]
    folders: list[Listed]
    above: dict[str, int]

    @cached_property
    def buildings(self) -> list[str]:
        """In the order of their numbers."""
        return sorted({folder.building for folder in self.folders})

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each building's views begin, and where the last one's end: (number of buildings + 1,)."""
        return np.searchsorted(self.views["building"], np.arange(len(self.buildings) + 1))

    @cached_property
    def by_path(self) -> dict[str, Listed]:
        return {folder.path: folder for folder in self.folders}

    def of_building(self, number: int) -> NDArray[np.void]:
        """Its views."""
        return self.views[self.starts[number] : self.starts[number + 1]]

    def having(self, domain: str) -> NDArray[np.bool_]:
        """Which views have a domain: (N,)."""
        found: NDArray[np.bool_] = (self.views["domains"] >> BIT[domain] & 1).astype(bool)
        return found

    def is_current(self, root: Path) -> bool:
        """Whether no folder has changed since; only times of change are looked at."""
        now = _times(root, [*self.above, *(folder.path for folder in self.folders)])
        then = self.above | {folder.path: folder.changed for folder in self.folders}
        return now == then


def _times(root: Path, paths: Sequence[str]) -> dict[str, int]:
    """Time of change of each folder in nanoseconds; 0 where there is none."""
    found = {}
    for path in paths:
        try:
            found[path] = (root / path).stat().st_mtime_ns
        except OSError:
            found[path] = 0
    return found


def build(root: Path, known: Index | None = None, watch: Watch = lambda done, of, name: None) -> Index:
    """List a root.

    :param known: an earlier index: what it knows of folders that have not changed is taken from it
    :raises DataError: there is no image, or a folder holds another domain's files
    """
    began = time.time_ns()
    tree = find_folders(root)
    above = {path: _settled(changed, began) for path, changed in _times(root, tree.above).items()}
    number = {name: i for i, name in enumerate(sorted({folder.building for folder in tree.folders}))}
    listed: list[Listed] = []
    parts: list[NDArray[np.void]] = []
    for building, own in groupby(tree.folders, lambda folder: folder.building):
        keys: dict[str, _Keys] = {}
        for folder in own:
            watch(len(listed), len(tree.folders), building)
            one, keys[folder.domain] = _known_keys(root, folder, known) or _list_folder(root, folder)
            listed.append(one)
        parts.append(_merged(number[building], keys))
    watch(len(listed), len(listed), "")
    made = Index(np.concatenate(parts), listed, above)
    if not made.having("rgb").any():
        first = next(folder for folder in listed if folder.domain == "rgb")
        raise DataError(
            f"{root / first.path}: no images; expected files such as point_0_view_0_domain_rgb.png; unpack the archives"
            " again"
        )
    return made


def _settled(changed: int, now: int) -> int:
    return changed if now - changed > _SETTLED else _UNSETTLED


def _known_keys(root: Path, folder: Folder, known: Index | None) -> tuple[Listed, _Keys] | None:
    """What an earlier index knows of a folder that has not changed."""
    found = known.by_path.get(folder.path) if known else None
    if known is None or found is None or _times(root, [folder.path])[folder.path] != found.changed:
        return None
    if (found.building, found.domain) != (folder.building, folder.domain):
        return None
    views = known.of_building(known.buildings.index(folder.building))
    own = views[(views["domains"] >> BIT[folder.domain] & 1).astype(bool)]
    return found, own["point"].astype(np.int64) << 32 | own["view"]


def _list_folder(root: Path, folder: Folder) -> tuple[Listed, _Keys]:
    """:raises DataError: the folder cannot be read, or holds another domain's files"""
    path = root / folder.path
    now = time.time_ns()
    changed = _settled(path.stat().st_mtime_ns, now)
    try:
        found = FILE.findall("\n".join(os.listdir(path)))
    except OSError as error:
        raise DataError(f"{path}: cannot be listed ({error.strerror}); let it be read") from error
    written = _domain_name(path, folder, {name for _, _, name in found})
    keys = [int(point) << 32 | int(view) for point, view, name in found if name == written]
    made = Listed(folder.building, folder.domain, folder.path, written, changed)
    return made, np.sort(np.array(keys, np.int64))


def _domain_name(path: Path, folder: Folder, names: set[str]) -> str:
    """How the files of a folder call its domain; the published way where there are two."""
    expected = DOMAINS[BIT[folder.domain]].written
    for name in expected:
        if name in names:
            return name
    if names:
        raise DataError(
            f"{path}: files of the domain {min(names)}, expected point_0_view_0_domain_{expected[0]}.png; is it another"
            " domain's folder?"
        )
    return ""


def _merged(building: int, keys: dict[str, _Keys]) -> NDArray[np.void]:
    """The views of a building from the files of its domains."""
    every = np.unique(np.concatenate(list(keys.values())))
    views = np.zeros(len(every), _VIEW)
    views["building"], views["point"], views["view"] = building, every >> 32, every & 0xFFFFFFFF
    for domain, own in keys.items():
        views["domains"][np.searchsorted(every, own)] |= 1 << BIT[domain]
    return views


def save(index: Index, path: Path) -> None:
    header = {
        "version": _VERSION,
        "domains": [domain.folder for domain in DOMAINS],
        "folders": [attrs.astuple(folder) for folder in index.folders],
        "above": index.above,
    }
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez(file, header=text, views=index.views)

    write_atomically(path, write)


def load(path: Path) -> Index | None:
    """A saved index; None where there is none, or none that this version can read."""
    try:
        # opened here: numpy leaves a damaged file open
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            header: dict[str, Any] = json.loads(saved["header"].tobytes())
            views: NDArray[np.void] = saved["views"]
        if (header["version"], header["domains"]) != (_VERSION, [domain.folder for domain in DOMAINS]):
            return None
        return Index(views, [Listed(*folder) for folder in header["folders"]], header["above"])
    except Exception:  # a damaged file makes numpy, zipfile and json raise a dozen kinds of error; it is made again
        return None
