"""Semantic segmentation from files of class ids or of colours.

Shape letters: H and W image size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

import attrs
import numpy as np
import torch
from attrs import field
from numpy.typing import NDArray
from torch import Tensor

from mtl_core import Segmentation, help
from mtl_data import resize_nearest
from mtl_folder.files import Raw, Unfit, colours
from mtl_folder.kinds.base import Dense, as_tuple, listed, one_channel
from mtl_folder.schema import valid

_OTHERS = "others"
_UNLABELLED = -1
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_Colour = str | tuple[int, int, int]
_PHOTOGRAPH = 256
"""More distinct colours, or ids, than a file of classes has."""


def class_check(value: object) -> None:
    names = list(value) if isinstance(value, tuple | dict) else []
    if value is not None and len(names) < 2:
        raise ValueError(f"expected two classes or more, found {len(names)}")
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f'the class "{min(twice)}" is there twice')


@attrs.frozen(kw_only=True)
class SegmentationFiles(Dense):
    """A class per pixel: a picture or array of ids, or a picture with a colour for each class."""

    kind: Literal["segmentation"] = field(metadata=help("kind of task"))
    classes: tuple[str, ...] | dict[str, int | tuple[int, ...]] | None = field(
        default=None,
        validator=valid(class_check),
        metadata=help("names in the order of their ids from 0, or a table: name → id or ids"),
    )
    colours: dict[str, _Colour | tuple[_Colour, ...]] | None = field(
        default=None,
        validator=valid(class_check),
        metadata=help('a table in place of classes: name → "#rrggbb" or [red, green, blue]'),
    )
    ignored: int | _Colour | tuple[int | _Colour, ...] = field(
        default=(), metadata=help('ids or colours without a class; "others": all that classes does not name')
    )

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if (self.classes is None) == (self.colours is None):
            found = "neither" if self.classes is None else "both"
            yield "classes", f"expected classes (ids) or colours, found {found}"
            return
        seen: dict[int, str] = {}
        for name, codes in self._table.items():
            yield from self._twice("colours" if self.colours else "classes", f'"{name}"', codes, seen)
        yield from self._twice("ignored", "ignored", self._unlabelled, seen)

    def _twice(self, group: str, place: str, codes: tuple[Any, ...], seen: dict[int, str]) -> Iterator[tuple[str, str]]:
        """Codes that are none, or belong to something else already."""
        start = "" if place == group else f"{place}: "
        for code in codes:
            number = self._number(code)
            if number is None:
                yield group, start + self._expected(code)
            elif number in seen:
                yield group, f"{start}{self._shown(number)} is {seen[number]} already"
            else:
                seen[number] = place

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.classes or self.colours or ())

    @property
    def _table(self) -> dict[str, tuple[Any, ...]]:
        """Name → its ids or colours."""
        if isinstance(self.classes, tuple):
            return {name: (i,) for i, name in enumerate(self.classes)}
        return {name: self._several(codes) for name, codes in (self.colours or self.classes or {}).items()}

    @property
    def _unlabelled(self) -> tuple[Any, ...]:
        return tuple(code for code in self._several(self.ignored) if code != _OTHERS)

    def _several(self, codes: Any) -> tuple[Any, ...]:
        """[0, 128, 0] is one colour, but three ids."""
        is_one = not isinstance(codes, tuple) or (self.colours is not None and _is_triple(codes))
        return (codes,) if is_one else codes

    def _number(self, code: Any) -> int | None:
        """An id as it is, a colour as 0xRRGGBB; None for what is neither."""
        if self.colours is None:
            return code if isinstance(code, int) else None
        if isinstance(code, str):
            return int(code[1:], 16) if _COLOUR.fullmatch(code) else None
        if not isinstance(code, tuple) or not all(0 <= part <= 255 for part in code):
            return None
        red, green, blue = map(int, code)
        return red << 16 | green << 8 | blue

    def _expected(self, code: Any) -> str:
        found = f'"{code}"' if isinstance(code, str) else str(list(code) if isinstance(code, tuple) else code)
        wanted = "an id (a whole number)" if self.colours is None else '"#rrggbb" or [red, green, blue] of 0 to 255'
        return f'expected {wanted} or, for ignored, "{_OTHERS}"; found {found}'

    @cached_property
    def _known(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sorted ids or colours, and the class of each, −1 for what is ignored."""
        codes: dict[int | None, int] = {} if self.colours else {_UNLABELLED: _UNLABELLED}
        codes |= {self._number(code): _UNLABELLED for code in self._unlabelled}
        for index, several in enumerate(self._table.values()):
            codes |= {self._number(code): index for code in several}
        ordered = sorted(code for code in codes if code is not None)
        return np.array(ordered, np.int64), np.array([codes[code] for code in ordered], np.int64)

    def task(self, name: str) -> Segmentation:
        return Segmentation(name=name, channels=len(self.names), classes=self.names)

    def label(self, raw: Raw) -> Tensor:
        codes = colours(raw.path) if self.colours else self._ids(raw)
        known, classes = self._known
        place = np.searchsorted(known, codes).clip(max=len(known) - 1)
        found = known[place] == codes
        if not found.all() and _OTHERS not in as_tuple(self.ignored):
            raise self._unknown(raw, codes, ~found)
        return torch.from_numpy(np.where(found, classes[place], _UNLABELLED))

    def resized(self, label: Tensor, size: tuple[int, int]) -> Tensor:
        return resize_nearest(label, size)

    def blank(self, size: tuple[int, int]) -> Tensor:
        return torch.full(size, _UNLABELLED)

    def _ids(self, raw: Raw) -> NDArray[np.int64]:
        if raw.values.ndim == 3 and not (raw.is_whole and (raw.values == raw.values[..., :1]).all()):
            raise self._coloured(raw)
        values = one_channel(raw, "")
        whole = values.astype(np.int64) if np.isfinite(values).all() else None
        if whole is None or not (whole == values).all():
            raise Unfit("values that are not whole numbers", "class ids", "are these files of another task (depth)?")
        return whole

    def _coloured(self, raw: Raw) -> Unfit:
        expected = "class ids in one channel"
        if not raw.is_whole:
            return Unfit(raw.form, expected, "are these files of another task (normals)?")
        found = np.unique(colours(raw.path))
        if len(found) > _PHOTOGRAPH:
            return Unfit(f"a picture with {len(found)} colours", expected, "are these images, or another task's files?")
        shown = ", ".join(f'"{_hex(code)}"' for code in found[:6])
        remedy = f'write colours in place of classes: colours = {{NAME = "{_hex(found[0])}", …}}'
        return Unfit(f"a colour picture ({len(found)} colours: {shown})", expected, remedy)

    def _unknown(self, raw: Raw, codes: NDArray[np.int64], unknown: NDArray[np.bool_]) -> Unfit:
        values = np.unique(codes[unknown])
        share = 100 * float(unknown.mean())
        if self.colours:
            shown = ", ".join(map(_hex, values[:4])) + (f" and {len(values) - 4} more" if len(values) > 4 else "")
            found = f"colours that are no class: {shown} ({share:.3g} % of the pixels)"
        else:
            found = f"ids that are no class: {listed(values, 6)} ({share:.3g} % of the pixels)"
        expected = f"the {len(self.names)} {'colours' if self.colours else f'ids {self._ids_shown()}'} of the classes"
        return Unfit(found, expected, self._remedy(raw, values, np.unique(codes)))

    def _ids_shown(self) -> str:
        known, classes = self._known
        return listed(known[classes >= 0], 6)

    def _remedy(self, raw: Raw, unknown: NDArray[np.int64], every: NDArray[np.int64]) -> str:
        last = self.names[-1]
        if raw.path.suffix.lower() in (".jpg", ".jpeg"):
            return "JPEG changes values: save label files as PNG"
        if len(unknown) > _PHOTOGRAPH or (not self.colours and len(unknown) > max(40, 3 * len(self.names))):
            return "are these files of another task (depth), or images?"
        if self.colours:
            return f'name them in colours, or write ignored = "{_OTHERS}"'
        if set(every) <= {0, 255} and len(self.names) == 2:
            return f'if 255 is "{last}": classes = {{{self.names[0]} = 0, {last} = 255}}; else ignored = 255'
        if list(unknown) == [255]:
            return "if 255 marks pixels without a class: ignored = 255"
        if list(unknown) == [len(self.names)] and isinstance(self.classes, tuple):
            return f"if ids count from 1: classes = {{{self.names[0]} = 1, …, {last} = {len(self.names)}}}"
        return f'name them in classes, or write ignored = [{listed(unknown, 3)}] or ignored = "{_OTHERS}"'

    def _shown(self, number: int) -> str:
        return _hex(number) if self.colours else str(number)

    def doubts(self, raw: Raw, label: Tensor) -> Iterator[Unfit]:
        if not (label >= 0).any():
            yield Unfit("no pixel with a class", "some", "look at ignored, and at the file")


def _hex(code: Any) -> str:
    return f"#{int(code):06x}"


def _is_triple(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(isinstance(part, int) for part in value)
