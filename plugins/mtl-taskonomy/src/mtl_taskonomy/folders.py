"""Where a root has the folders of each building's domains; their files are not listed here.

============  =====================================================================================================
one building  ``{root}/{domain}/point_…``: what the archive of one building and domain holds
buildings     ``{root}/{building}/{domain}/point_…``; also with a folder that has the archive's name between,
              ``{building}_{domain}/{domain}/point_…``
domains       ``{root}/{domain}/taskonomy/{building}/point_…``, as omnitools.download makes it; also without
              ``taskonomy``
============  =====================================================================================================
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import attrs

from mtl_core import DataError
from mtl_taskonomy.domains import BIT, FILE, OTHERS

_DEEPEST = 3
"""How many folders may lie between the root and a domain's folder."""
_ARCHIVE = re.compile(rf"(.+?)_(?:{'|'.join(sorted([*BIT, *OTHERS], key=len, reverse=True))})")


@attrs.frozen
class Folder:
    """The files of one domain of one building.

    :param path: below the root, with slashes; "." is the root itself
    """

    building: str
    domain: str
    path: str


@attrs.frozen
class Tree:
    """What a root holds.

    :param folders: sorted by building and domain
    :param above: every folder that was looked through to find them: where a new one would appear
    """

    folders: list[Folder]
    above: list[str]


def find_folders(root: Path) -> Tree:
    """:raises DataError: there is no such folder, no images in it, or two folders for one domain of a building"""
    if not root.is_dir():
        found = "not a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {found}; set plugins.taskonomy.root to the folder that holds Taskonomy")
    above: list[str] = []
    folders = sorted(_search(root, root, above), key=lambda folder: (folder.building, BIT[folder.domain], folder.path))
    _check_pairs(root, folders)
    if not any(folder.domain == "rgb" for folder in folders):
        raise DataError(
            f"{root}: no folder rgb in it; expected BUILDING/rgb/point_0_view_0_domain_rgb.png, rgb/taskonomy/BUILDING"
            " or rgb/point_0_view_0_domain_rgb.png; set plugins.taskonomy.root to the folder that holds these"
        )
    return Tree(folders, above)


def _search(root: Path, folder: Path, above: list[str], depth: int = 0) -> Iterator[Folder]:
    """The domains' folders in a folder and below it."""
    above.append(_below(root, folder))
    for path in _folders_in(folder):
        if path.name in BIT:
            yield from _contents(root, path, above)
        elif path.name not in OTHERS and depth < _DEEPEST:
            yield from _search(root, path, above, depth + 1)


def _contents(root: Path, folder: Path, above: list[str]) -> Iterator[Folder]:
    """A domain's folder: one building's files, or a folder for each building."""
    domain = folder.name
    if not _holds_folders(folder):
        yield Folder(_building_of(folder.parent), domain, _below(root, folder))
        return
    above.append(_below(root, folder))
    inner = folder / "taskonomy"
    if inner.is_dir():
        above.append(_below(root, inner))
        folder = inner
    for path in _folders_in(folder):
        yield Folder(path.name, domain, _below(root, path))


def _folders_in(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    return [folder / name for name in sorted(names)]


def _holds_folders(folder: Path) -> bool:
    """By the first entry that decides: a folder of files may have a million of them."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if FILE.match(entry.name):
                return False
            if entry.is_dir() and not entry.name.startswith("."):
                return True
    return False


def _building_of(folder: Path) -> str:
    """A building's folder has its name, or that of one of its archives."""
    name = Path(os.path.abspath(folder)).name
    archive = _ARCHIVE.fullmatch(name)
    return archive[1] if archive else name


def _below(root: Path, folder: Path) -> str:
    return folder.relative_to(root).as_posix()


def _check_pairs(root: Path, folders: list[Folder]) -> None:
    for one, two in pairwise(folders):
        if (one.building, one.domain) == (two.building, two.domain):
            raise DataError(
                f"{root}: building {one.building} has two folders of the domain {one.domain}, {one.path} and"
                f" {two.path}; expected one; remove one of them"
            )
