"""Other names for runs in a table: ``--label RUN=NAME``. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs

from mtl_core import MtlError, nearest
from mtl_suite.result import Result

Labels = Mapping[Path, str]
"""A run's folder, or that of a set of runs, resolved → its name in the table."""


def read_labels(given: Iterable[str], folders: Sequence[Path]) -> dict[Path, str]:
    """``RUN=NAME`` as the command line gives it.

    :param folders: that are compared
    :raises MtlError: no folder of a label is among them, or it has no name
    """
    known = {folder.resolve(): str(folder) for folder in folders}
    found: dict[Path, str] = {}
    for label in given:
        run, name = _split(label, known)
        if run is None:
            folder = label.rpartition("=")[0]
            guess = nearest(folder, known.values()) or f" (they are: {', '.join(known.values())})"
            raise MtlError(f'--label {label}: expected RUN=NAME with a RUN that is compared, found "{folder}"{guess}')
        if not name.strip():
            raise MtlError(f"--label {label}: expected a name behind the =, such as --label {known[run]}=JTR")
        found[run] = name.strip()
    return found


def _split(label: str, known: Mapping[Path, str]) -> tuple[Path | None, str]:
    """Folder and name of a label; a folder's name may hold a = of its own."""
    places = [place for place, letter in enumerate(label) if letter == "="]
    for place in places:
        if (folder := Path(label[:place]).resolve()) in known:
            return folder, label[place + 1 :]
    return None, ""


def labelled(result: Result, labels: Labels) -> Result:
    """A result under the name that its folder, or the folder of its set, has in the table."""
    folder = result.folder.resolve()
    for place in (folder, folder.parent):
        if place in labels:
            return attrs.evolve(result, name=labels[place])
    return result
