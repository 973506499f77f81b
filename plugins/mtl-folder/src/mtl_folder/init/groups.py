"""Files of a folder in groups that one path with placeholders describes.

Folders of splits become ``{split}``. Files that differ in one folder only, and are not of one name there, are one
group with a placeholder for that folder.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from mtl_folder.description import FOLDERS
from mtl_folder.init.hints import EVERY_HINT, form_of, is_photograph, words_of
from mtl_folder.patterns import ANY, ARRAYS, ENDINGS, in_order

SPLIT_OF = {folder: split for split, folders in FOLDERS.items() for folder in folders}
"""Name of a folder → the split that it mostly is."""
_MOST = 200_000
"""Files that are looked at, at most."""
_LEAST = 0.5
"""Share of the smaller group whose files have a partner in the other."""
_FEW = 8
"""Endings of names (``_mask``, ``_depth`` …) that distinguish groups in one folder, at most."""


_Cut = Callable[[str], str]
"""Name → the word that it begins or ends with."""
_Place = tuple[str, str]
"""(folder with placeholders, ending)"""


@attrs.frozen
class File:
    """One picture or array.

    :param key: what it shares with the other files of its image: split, further folders, name
    :param stem: its name without ending
    """

    path: Path
    split: str | None
    between: str
    stem: str

    @property
    def key(self) -> tuple[str | None, str, str]:
        return self.split, self.between, self.stem


@attrs.frozen
class Group:
    """Files that one pattern describes.

    :param folder: its folder, with ``{split}`` and ``{folder}`` in it
    :param ending: of the files, or ``.*`` for several
    :param before: what every name begins with, in front of the part that distinguishes images
    :param after: what every name ends with
    """

    folder: str
    ending: str
    files: tuple[File, ...]
    before: str = ""
    after: str = ""

    @property
    def pattern(self) -> str:
        file = f"{self.before}{{name}}{self.after}{self.ending}"
        return f"{self.folder}/{file}" if self.folder != "." else file

    @property
    def words(self) -> set[str]:
        """Words of the path, small: what the files may be about."""
        return words_of(f"{self.folder}/{self.before}/{self.after}")

    @property
    def splits(self) -> dict[str, str]:
        """Split → name of its folder, in this group."""
        names = {file.split for file in self.files if file.split is not None}
        return {SPLIT_OF[name.lower()]: name for name in sorted(names)}

    def name(self, file: File) -> tuple[str | None, str, str]:
        """The key of a file's image."""
        stem = file.stem[len(self.before) : len(file.stem) - len(self.after)]
        return file.split, file.between, stem


def groups(root: Path) -> list[Group]:
    """Every group of pictures or arrays below a folder."""
    by_folder: dict[_Place, list[File]] = {}
    for path in walk(root):
        if path.suffix.lower() in ENDINGS:
            folder, file = _place(root, path)
            by_folder.setdefault((folder, path.suffix), []).append(file)
    merged = _one_ending(_between(by_folder))
    found = [Group(folder, ending, tuple(files)) for (folder, ending), files in merged.items()]
    return [part for group in found for part in _by_word(group)]


def walk(root: Path) -> Iterator[Path]:
    """Files below a folder, without hidden ones, in the order of the numbers in their names."""
    count = 0
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files, key=in_order):
            if not name.startswith(".") and count < _MOST:
                count += 1
                yield Path(folder) / name


def _place(root: Path, path: Path) -> tuple[str, File]:
    """The folder with ``{split}`` in place of a split's name, and the file."""
    parts = list(path.parent.relative_to(root).parts)
    split = None
    for i, part in enumerate(parts):
        if part.lower() in SPLIT_OF and split is None:
            split, parts[i] = part, "{split}"
    return "/".join(parts) or ".", File(path, split, "", path.stem)


def _between(found: dict[_Place, list[File]]) -> dict[_Place, list[File]]:
    """Folders side by side that hold other images become one with ``{folder}`` in its path."""
    merged = dict(found)
    known = list[set[str]]()
    # images first: folders of labels that have the names of theirs then match too
    for (above, below, ending), names in sorted(_families(found).items(), key=lambda family: _order(found, *family)):
        places = {name: (_path(above, name, below) or ".", ending) for name in names}
        places = {name: place for name, place in places.items() if place in merged}
        firsts = [merged[place][0] for place in places.values()]
        if len(places) > 1 and (_are_alike(list(places), firsts, below) or any(set(places) <= k for k in known)):
            known.append(set(places))
            files = [attrs.evolve(file, between=name) for name, place in places.items() for file in merged.pop(place)]
            merged[_path(above, "{folder}", below), ending] = files
    return merged


def _order(found: dict[_Place, list[File]], family: tuple[str, str, str], names: list[str]) -> tuple[bool, int]:
    above, below, ending = family
    first = found[_path(above, names[0], below), ending][0]
    return not is_photograph(first.path), -len(names)


def _families(found: Iterable[_Place]) -> dict[tuple[str, str, str], list[str]]:
    """Paths that differ in one folder: (above, below, ending) → the folder's names."""
    families: dict[tuple[str, str, str], list[str]] = {}
    for folder, ending in found:
        parts = folder.split("/")
        for i, part in enumerate(parts):
            if part not in (".", "{split}"):
                families.setdefault(("/".join(parts[:i]), "/".join(parts[i + 1 :]), ending), []).append(part)
    return families


def _path(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _are_alike(names: Sequence[str], firsts: Sequence[File], below: str) -> bool:
    """Whether folders hold the same kind of files, of classes or scenes: not images in one and labels in another."""
    if any(words_of(name) & EVERY_HINT for name in names):
        return False
    photographs = [is_photograph(file.path) for file in firsts]
    return all(photographs) or (below != "" and len({form_of(file.path) for file in firsts}) == 1)


def _one_ending(found: dict[_Place, list[File]]) -> dict[_Place, list[File]]:
    """Files of several endings in one folder are one group where no name is there twice."""
    merged: dict[_Place, list[File]] = {}
    for folder in dict.fromkeys(folder for folder, _ in found):
        endings = {ending: files for (other, ending), files in found.items() if other == folder}
        every = [file for files in endings.values() for file in files]
        if len(endings) > 1 and len({file.key for file in every}) == len(every) and not _differ(endings):
            merged[folder, ANY] = every
        else:
            merged |= {(folder, ending): files for ending, files in endings.items()}
    return merged


def _differ(endings: Mapping[str, Sequence[File]]) -> bool:
    """Whether pictures and arrays lie side by side, or names differ by a word."""
    words = {(_common(_first, files), _common(_last, files)) for files in endings.values()}
    return len({ending.lower() in ARRAYS for ending in endings}) > 1 or len(words) > 1


def _common(cut: _Cut, files: Sequence[File]) -> str:
    """The word that all names begin or end with."""
    words = {cut(file.stem) for file in files}
    return words.pop() if len(words) == 1 else ""


def _by_word(group: Group) -> list[Group]:
    """``0001_rgb`` and ``0001_depth`` in one folder are two groups."""
    ways = []
    for cut in (_last, _first):
        parts: dict[str, list[File]] = {}
        for file in group.files:
            parts.setdefault(cut(file.stem), []).append(file)
        names = [{(*file.key[:2], _without(file.stem, word, cut)) for file in files} for word, files in parts.items()]
        if 2 <= len(parts) <= _FEW and _overlap(names):
            ways.append((cut, parts))
    if not ways:
        return [group]
    cut, parts = min(ways, key=lambda way: len(way[1]))
    key = "before" if cut is _first else "after"
    return [attrs.evolve(group, files=tuple(files), **{key: word}) for word, files in parts.items()]


def _overlap(names: Sequence[set[tuple[str | None, str, str]]]) -> bool:
    """Whether the groups are about the same images."""
    every = set[tuple[str | None, str, str]]().union(*names)
    return len(every) > 1 and sum(map(len, names)) > 1.5 * len(every)


def _last(stem: str) -> str:
    found = re.search(r"[_\-.][A-Za-z][A-Za-z0-9]*$", stem)
    return found[0] if found else ""


def _first(stem: str) -> str:
    found = re.match(r"[A-Za-z]+[_\-.]", stem)
    return found[0] if found else ""


def _without(stem: str, word: str, cut: _Cut) -> str:
    return stem.removeprefix(word) if cut is _first else stem.removesuffix(word)


def matched(images: Group, labels: Group) -> tuple[Group, Group] | None:
    """Both groups with the parts of their names that distinguish an image from its label; None where they do not match.

    Tried are equal names, a word before or behind (``0001_mask``), and different words (``0001_image``).
    """
    for first in (images, _stripped(images)):
        for second in (labels, _stripped(labels), _around(first, labels)):
            if second is not None and shared(first, second) >= _LEAST * min(len(images.files), len(labels.files)):
                return first, second
    return None


def shared(images: Group, labels: Group) -> int:
    """Images that have a label."""
    if ("{split}" in labels.folder) > ("{split}" in images.folder):
        return 0
    return len({images.name(file) for file in images.files} & {labels.name(file) for file in labels.files})


def _stripped(group: Group) -> Group:
    """The group without the word that all its names end with, or begin with."""
    if group.before or group.after:
        return group
    after = _common(_last, group.files)
    before = _common(_first, group.files)
    return attrs.evolve(group, after=after) if after else attrs.evolve(group, before=before)


def _around(images: Group, labels: Group) -> Group | None:
    """The labels with what stands around the images' names in theirs."""
    pairs = Counter[tuple[str, str]]()
    names = {images.name(file)[2] for file in images.files[:50]}
    for file in labels.files[:50]:
        for name in names:
            if name and name in file.stem and name != file.stem:
                before, _, after = file.stem.partition(name)
                pairs[before, after] += 1
    if not pairs:
        return None
    (before, after), _ = pairs.most_common(1)[0]
    fitting = [f for f in labels.files if f.stem.startswith(before) and f.stem.endswith(after)]
    return attrs.evolve(labels, before=before, after=after, files=tuple(fitting))
