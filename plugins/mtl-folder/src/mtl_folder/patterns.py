"""Paths with placeholders: ``{split}/images/{name}.jpg``.

A placeholder stands for a part of one folder's or file's name. ``.*`` at the end stands for any ending of pictures and
arrays. A path without a file, such as ``images`` or ``{split}/images``, means every file in it: ``images/{name}.*``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAME = "name"
SPLIT = "split"
ANY = ".*"
_PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif")
ARRAYS = (".npy",)
ENDINGS = (*_PICTURES, *ARRAYS)
_Values = Mapping[str, str]
"""Placeholder → what stands in its place."""


class Listing:
    """What folders hold, each looked at once; hidden files are left out."""

    def __init__(self) -> None:
        self._known: dict[Path, _Entries] = {}

    def __getitem__(self, folder: Path) -> _Entries:
        if folder not in self._known:
            self._known[folder] = _Entries.of(folder)
        return self._known[folder]


@attrs.frozen
class _Entries:
    """The entries of one folder, by name, in order.

    :param stems: name without ending → the pictures and arrays of that name
    """

    folders: dict[str, None]
    files: dict[str, None]
    stems: dict[str, list[str]]

    @classmethod
    def of(cls, folder: Path) -> _Entries:
        made = cls({}, {}, {})
        if not folder.is_dir():
            return made
        with os.scandir(folder) as entries:
            below = sorted((e.name, e.is_dir()) for e in entries if not e.name.startswith("."))
        for name, is_folder in below:
            stem, ending = os.path.splitext(name)
            (made.folders if is_folder else made.files)[name] = None
            if ending.lower() in ENDINGS and not is_folder:
                made.stems.setdefault(stem, []).append(name)
        return made


@attrs.frozen
class Pattern:
    """One path with placeholders, relative to the root of the data, with ``/`` between folders.

    :param written: as the user wrote it
    """

    written: str

    @property
    def text(self) -> str:
        """The path to a file, with the file's part where a folder was written."""
        last = self.written.rstrip("/").rpartition("/")[2]
        is_folder = f"{{{_NAME}}}" not in self.written and not re.search(r"\.(\w+|\*)$", last)
        return f"{self.written.rstrip('/')}/{{{_NAME}}}{ANY}" if is_folder else self.written

    @property
    def placeholders(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(PLACEHOLDER.findall(self.text)))

    def mistakes(self) -> Iterator[str]:
        """What keeps the path from being used, whatever the folders hold."""
        if "\\" in self.written:
            yield f'found a backslash in "{self.written}"; write / between folders'
        if Path(self.written).is_absolute() or ".." in self.written.split("/"):
            yield f'expected a path below the root of the data, found "{self.written}"'
        rest = PLACEHOLDER.sub("", self.written)
        if "{" in rest or "}" in rest:
            yield f'a brace without its partner in "{self.written}"'
        for name in PLACEHOLDER.findall(self.written):
            if not name.isidentifier():
                yield f'"{{{name}}}" is no placeholder; expected a word such as {{{_NAME}}} in braces'

    def find(self, root: Path, known: _Values, listing: Listing) -> list[tuple[dict[str, str], Path]]:
        """Every file that fits, with what its placeholders stand for, in the order of the numbers in the paths.

        :param known: placeholders whose value is given
        """
        found = list(_descend(root, self._parts(known), dict(known), listing))
        return sorted(found, key=lambda pair: in_order(pair[1].relative_to(root).as_posix()))

    def files(self, root: Path, values: _Values, listing: Listing) -> list[Path]:
        """The files that exist for one image: mostly one or none."""
        return [path for _, path in _descend(root, self._parts(values), dict(values), listing)]

    def shown(self, values: _Values) -> str:
        """The path with its placeholders filled."""
        return PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), self.text)

    def _parts(self, known: _Values) -> list[str]:
        """Folders and file; the split alone may be several folders deep."""
        return self.text.replace(f"{{{SPLIT}}}", known.get(SPLIT, f"{{{SPLIT}}}")).split("/")


def in_order(text: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts 2 before 10."""
    parts = re.findall(r"\d+|\D+", text)
    return tuple((0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts)


def _descend(
    folder: Path, parts: list[str], known: dict[str, str], listing: Listing
) -> Iterator[tuple[dict[str, str], Path]]:
    part = parts[0]
    rest = parts[1:]
    if rest:
        for name, values in _fitting(part, listing[folder].folders, known):
            yield from _descend(folder / name, rest, values, listing)
    elif part.endswith(ANY):
        for stem, values in _fitting(part.removesuffix(ANY), listing[folder].stems, known):
            yield from ((values, folder / name) for name in listing[folder].stems[stem])
    else:
        yield from ((values, folder / name) for name, values in _fitting(part, listing[folder].files, known))


def _fitting(part: str, entries: Mapping[str, object], known: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The entries that a part of a path stands for, with what its placeholders stand for."""
    exact = PLACEHOLDER.sub(lambda found: known.get(found[1], found[0]), part)
    if set(PLACEHOLDER.findall(part)) <= set(known):
        if exact in entries:
            yield exact, known
        return
    expression = _expression(part, known)
    for name in entries:
        if found := expression.fullmatch(name):
            yield name, {**known, **found.groupdict()}


def _expression(part: str, known: _Values) -> re.Pattern[str]:
    pieces: list[str] = []
    seen = set[str]()
    for i, piece in enumerate(PLACEHOLDER.split(part)):
        if i % 2 == 0:
            pieces.append(re.escape(piece))
        elif piece in known:
            pieces.append(re.escape(known[piece]))
        else:
            pieces.append(f"(?P={piece})" if piece in seen else f"(?P<{piece}>.+)")
            seen.add(piece)
    return re.compile("".join(pieces))
