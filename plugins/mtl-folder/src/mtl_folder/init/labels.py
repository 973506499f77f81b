"""Guesses of what label files hold, from their values and the words of their paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from mtl_core import DataError
from mtl_folder.files import Raw, colours, read_raw
from mtl_folder.init.groups import Group
from mtl_folder.init.hints import HINTS
from mtl_folder.init.write import Entry, Line

_LOOKED_AT = 12
"""Files of a group whose values are looked at; ids and colours are collected from more."""
_COLLECTED = 300
_FEW = 64
"""Most different ids or colours of classes."""
_METRES = 100.0
"""A median distance above this is hardly in metres."""


@attrs.frozen
class _Look:
    """What the first files of a group hold.

    :param raws: their values
    """

    group: Group
    raws: Sequence[Raw]

    def hints(self, kind: str) -> bool:
        return bool(self.group.words & HINTS[kind])

    @property
    def values(self) -> NDArray[Any]:
        """Finite values of all the files, in one row."""
        every: NDArray[Any] = np.concatenate([raw.values.ravel() for raw in self.raws])
        finite: NDArray[Any] = every[np.isfinite(every)]
        return finite

    @property
    def channels(self) -> int:
        return 1 if self.raws[0].values.ndim == 2 else int(self.raws[0].values.shape[2])

    @property
    def is_grey(self) -> bool:
        """Whether all channels are the same."""
        return all(
            raw.is_whole and (raw.values.ndim == 2 or (raw.values == raw.values[..., :1]).all()) for raw in self.raws
        )

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.raws[0].values.dtype


def _look(group: Group) -> _Look | None:
    """The first files of a group; None where they cannot be read as labels."""
    raws = []
    for file in group.files[:_LOOKED_AT]:
        try:
            raws.append(read_raw(file.path))
        except DataError:
            return None
    shapes = {(raw.values.ndim, raw.values.shape[2:], raw.values.dtype) for raw in raws}
    return _Look(group, raws) if len(shapes) == 1 else None


def guess(group: Group, images: int, have: int) -> Entry | None:
    """A task of the files of a group; None where no kind fits.

    :param images: number of images
    :param have: images that have such a file
    """
    seen = _look(group)
    if seen is None:
        return None
    files = Line("files", group.pattern, f"{have} of {images} images have one")
    entry = _by_values(seen)
    return entry and attrs.evolve(entry, lines=[entry.lines[0], files, *entry.lines[1:]])


def _by_values(seen: _Look) -> Entry | None:
    if seen.channels == 3 and not seen.is_grey:
        return _three_channels(seen)
    if seen.channels > 1 and not seen.is_grey:
        note = f"{seen.channels} values per pixel"
        return Entry("regression", [Line("kind", "regression", note), Line("channels", seen.channels)])
    if seen.dtype.kind == "f":
        return _floats(seen)
    return _whole(seen)


def _three_channels(seen: _Look) -> Entry | None:
    if _is_unit(seen):
        return _normals(seen)
    if seen.dtype.kind == "f":
        return Entry("regression", [Line("kind", "regression", "three values per pixel"), Line("channels", 3)])
    found = _collected(seen.group, lambda path: colours(path))
    if len(found) > _FEW:
        return None
    table = {f"class{i}": f"#{code:06x}" for i, code in enumerate(found)}
    note = f"{len(found)} colours in {min(len(seen.group.files), _COLLECTED)} files: give them their names"
    return Entry(
        "segmentation", [Line("kind", "segmentation", "pictures of few colours"), Line("colours", table, note)]
    )


def _is_unit(seen: _Look) -> bool:
    """Whether most vectors are of length 1."""
    shares = []
    for raw in seen.raws:
        values = raw.values.astype(np.float64)
        vectors = (values - 128) / 127 if raw.values.dtype == np.uint8 else values
        known = raw.values.any(-1) & np.isfinite(vectors).all(-1)
        lengths = np.linalg.norm(vectors[known], axis=-1)
        lengths = lengths[lengths > 0.5]
        shares.append(float(((lengths > 0.95) & (lengths < 1.05)).mean()) if lengths.size else 0.0)
    return float(np.median(shares)) > 0.9


def _normals(seen: _Look) -> Entry:
    lines = [Line("kind", "normals", "vectors of length 1")]
    towards = []
    for raw in seen.raws:
        z = raw.values[..., 2].astype(np.float64)
        z = (z - 128) / 127 if raw.values.dtype == np.uint8 else z
        towards.append(float((z[raw.values.any(-1)] > 0).mean()))
    if float(np.median(towards)) > 0.5:
        lines.append(Line("flip", ["y", "z"], "z points towards the camera; is y up as well? else only z"))
    return Entry("normals", lines)


def _floats(seen: _Look) -> Entry | None:
    values = seen.values
    if not values.size:
        return None
    low = float(values.min())
    high = float(values.max())
    span = f"values {low:.4g} to {high:.4g}"
    if (values == np.round(values)).all() and len(np.unique(values)) <= _FEW and not seen.hints("depth"):
        return _ids(seen)
    if seen.hints("disparity"):
        return Entry("disparity", [Line("kind", "disparity", span)])
    if seen.hints("depth"):
        return Entry("depth", [Line("kind", "depth", span), *_unit(float(np.median(values[values > 0])))])
    if seen.hints("edges") and low >= 0 and high <= 1:
        return Entry("edges", [Line("kind", "edges", span)])
    return Entry("regression", [Line("kind", "regression", span)])


def _unit(median: float) -> list[Line]:
    if median <= _METRES:
        return [Line("unit", "m", f"half of the values are below {median:.3g}")]
    return [Line("unit", "mm", f"half of the values are above {median:.4g}: hardly metres")]


def _whole(seen: _Look) -> Entry | None:
    """Whole numbers of 8, 16 or more bits, or true and false."""
    distinct = np.unique(seen.values)
    bits = f"whole numbers {distinct[0]:g} to {distinct[-1]:g}"
    if seen.hints("edges") and len(distinct) != 1:
        scale = [Line("scale", 1)] if list(distinct) == [0, 1] and seen.dtype == np.uint8 else []
        return Entry("edges", [Line("kind", "edges", bits), *scale])
    if seen.hints("disparity"):
        return Entry("disparity", [Line("kind", "disparity", bits), Line("scale", 1 / 256, "as KITTI and Cityscapes")])
    if seen.hints("depth") and len(distinct) > _FEW / 4:
        return _whole_depth(seen, bits)
    if len(distinct) <= _FEW or (seen.hints("segmentation") and len(distinct) <= 256):
        return _ids(seen)
    if seen.dtype == np.uint8:
        return Entry("regression", [Line("kind", "regression", bits), Line("scale", 1 / 255, "0..255 as 0..1")])
    return _whole_depth(seen, bits)


def _whole_depth(seen: _Look, bits: str) -> Entry:
    if seen.dtype == np.uint8:
        note = "8 bits are mostly pictures for looking at: metres per step?"
        return Entry("depth", [Line("kind", "depth", bits), Line("scale", 1 / 255, note)])
    return Entry("depth", [Line("kind", "depth", f"{bits}, 16 bits"), Line("unit", "mm", "a guess: whole numbers")])


def _ids(seen: _Look) -> Entry | None:
    """Class ids."""
    found = [int(code) for code in _collected(seen.group, lambda path: read_raw(path).values)]
    files = min(len(seen.group.files), _COLLECTED)
    kind = Line("kind", "segmentation", f"{len(found)} different ids in {files} files: {_shown(found)}")
    ignored = [Line("ignored", 255, "a guess: 255 mostly marks pixels without a class")]
    if found == [0, 255]:
        return Entry("segmentation", [kind, Line("classes", {"background": 0, "object": 255}, "names are guesses")])
    codes = [code for code in found if code not in (255, -1)]
    lines = [kind, _classes(codes), *(ignored if 255 in found else [])]
    return Entry("segmentation", lines) if len(codes) > 1 else None


def _classes(codes: Sequence[int]) -> Line:
    note = "give them their names"
    if 0 <= codes[0] <= 1 and codes[-1] < _FEW:
        names = [f"class{code}" for code in range(codes[-1] + 1)]
        if codes[0] == 1:
            return Line("classes", {name: code for code, name in enumerate(names) if code}, note)
        return Line("classes", names, note)
    return Line("classes", {f"class{code}": code for code in codes}, note)


def _collected(group: Group, read: Any) -> list[int]:
    """Different values of many files of a group."""
    found: set[int] = set()
    for file in group.files[:_COLLECTED]:
        values = read(file.path)
        found |= {int(code) for code in np.unique(values[np.isfinite(values)])}
        if len(found) > 4 * _FEW:
            break
    return sorted(found)


def _shown(codes: Sequence[int]) -> str:
    if len(codes) > 4 and codes[-1] - codes[0] == len(codes) - 1:
        return f"{codes[0]} to {codes[-1]}"
    return ", ".join(map(str, codes[:8])) + (" …" if len(codes) > 8 else "")
