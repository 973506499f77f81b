"""Which buildings are for training, validation and test."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from mtl_core import DataError, nearest
from mtl_taskonomy.choices import SPLITS

Buildings = dict[str, tuple[str, ...]]
"""Split → names of its buildings."""

_HEADER = ["id", *SPLITS]

_TINY: Buildings = {
    "train": (
        "hanson", "merom", "klickitat", "onaga", "leonardo", "marstons", "newfields", "pinesdale", "lakeville",
        "cosmos", "benevolence", "pomaria", "tolstoy", "shelbyville", "allensville", "wainscott", "beechwood",
        "coffeen", "stockman", "hiteman", "woodbine", "lindenwood", "forkland", "mifflinburg", "ranchester",
    ),
    "val": ("wiconisco", "corozal", "collierville", "markleeville", "darden"),
    "test": ("ihlen", "muleshoe", "uvalda", "noxapater", "mcdade"),
}  # fmt: skip
"""The buildings of ``splits_tiny.csv``."""


def buildings_of(subset: str, file: Path | None) -> Buildings:
    """The buildings of a subset.

    :param file: a split file, a folder or the publishers' archive with ``splits_{subset}.csv``; needed for all but tiny
    :raises DataError: there is no such file, or it is not of the published form
    """
    if file is not None:
        return _parse(*_text_of(file, f"splits_{subset}.csv"))
    if subset != "tiny":
        raise DataError(
            f"taskonomy: the buildings of the subset {subset} are in the publishers' splits_{subset}.csv; get"
            " splits_taskonomy.zip (github.com/StanfordVL/taskonomy, data/assets) and set plugins.taskonomy.split_file"
        )
    return _TINY


def _text_of(file: Path, name: str) -> tuple[str, str]:
    """Where a split was found, and its text."""
    try:
        if file.is_dir():
            return str(file / name), (file / name).read_text("utf-8-sig")
        if zipfile.is_zipfile(file):
            return f"{file}/{name}", _in_archive(file, name)
        return str(file), file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{file}: cannot be read ({reason}); expected a split file (id,train,val,test), or a folder or .zip file"
            f" with {name}"
        ) from error


def _in_archive(file: Path, name: str) -> str:
    with zipfile.ZipFile(file) as archive:
        found = [n for n in archive.namelist() if Path(n).name == name and "__MACOSX" not in n]
        if not found:
            raise DataError(f"{file}: no {name} in it (it has: {', '.join(archive.namelist())})")
        return archive.read(found[0]).decode("utf-8-sig")


def _parse(source: str, text: str) -> Buildings:
    """A split file; its lines may end in a carriage return alone, as the published ones do."""
    rows = [row for row in csv.reader(io.StringIO("\n".join(text.splitlines()))) if any(row)]
    if not rows or [cell.strip() for cell in rows[0]] != _HEADER:
        found = ",".join(rows[0]) if rows else "nothing"
        raise DataError(f"{source}: begins with {found}, expected the header {','.join(_HEADER)}")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(_HEADER) or any(cell.strip() not in ("0", "1") for cell in row[1:]):
            raise DataError(f"{source}: line {number}: {','.join(row)}, expected a building and three cells of 0 or 1")
    return {
        split: tuple(row[0].strip() for row in rows[1:] if row[column].strip() == "1")
        for column, split in enumerate(SPLITS, 1)
    }


def found_buildings(wanted: Sequence[str], there: Sequence[str], split: str, root: Path, incomplete: bool) -> list[int]:
    """The numbers of a split's buildings in an index; upper and lower case are one.

    :param there: the index's buildings
    :param incomplete: whether some may be missing
    :raises DataError: some are missing, or all
    """
    number = {name.casefold(): i for i, name in enumerate(there)}
    missing = [name for name in wanted if name.casefold() not in number]
    if missing and (not incomplete or len(missing) == len(wanted)):
        guess = nearest(missing[0], there)
        has = ", ".join(there[:8]) + (", …" if len(there) > 8 else "")
        remedy = (
            "give a split file with these buildings"
            if len(missing) == len(wanted)
            else "get them, or set plugins.taskonomy.incomplete = true to do without"
        )
        raise DataError(
            f"{root}: {len(missing)} of the {len(wanted)} buildings of the {split} split are not there:"
            f" {', '.join(missing[:8])}{', …' if len(missing) > 8 else ''}{guess} (there are: {has}); {remedy}"
        )
    if not wanted:
        raise DataError(f"taskonomy: the split file has no building for {split}")
    return [number[name.casefold()] for name in wanted if name.casefold() in number]
