"""What a folder holds: the tables of ``mtl-folder.toml``, or of the experiment.

Everything that can be checked without looking at images, labels and lists is checked here, every mistake at once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import field

from mtl_core import DataError, nearest
from mtl_folder.kinds import KINDS, Dense, Kind, PerImage
from mtl_folder.kinds.base import path_check, range_check
from mtl_folder.patterns import PLACEHOLDER, SPLIT, Pattern
from mtl_folder.schema import Wrong, expected, fields, key, lines, show, structure, unknown_key

SPLITS = ("train", "val", "test")
FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""Names of a split's folder, tried in this order where the description gives none."""


def _share_check(value: str | float | None) -> None:
    if isinstance(value, float) and not 0 < value < 1:
        raise ValueError(f"expected a share between 0 and 1, or text, found {value:g}")
    if value == "":
        raise ValueError('expected text or a share, found "" (text)')


@attrs.frozen(kw_only=True)
class Splits:
    """Which images are for training, validation and test.

    A text is the folder that ``{split}`` stands for, a cell of ``column``, or else a text file with a name per line; a
    number is a seeded share of the training images.
    """

    train: str | None = field(default=None, metadata=key("training images", _share_check))
    val: str | float | None = field(default=None, metadata=key("validation images", _share_check))
    test: str | float | None = field(default=None, metadata=key("test images", _share_check))
    column: str | None = field(default=None, metadata=key("column of the CSV that names each image's split"))
    seed: int = field(default=0, metadata=key("seed of the shares"))

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if sum(self.shares.values()) >= 1:
            yield "test", f"expected shares below 1 together, found {sum(self.shares.values()):g}"

    @property
    def texts(self) -> dict[str, str]:
        return {name: value for name in SPLITS if isinstance(value := getattr(self, name), str)}

    @property
    def shares(self) -> dict[str, float]:
        return {name: value for name in SPLITS if isinstance(value := getattr(self, name), float)}


@attrs.frozen(kw_only=True)
class Csv:
    """A table with a row per image."""

    file: str = field(metadata=key('path of the CSV, such as "labels.csv"', path_check))
    key: str | None = field(default=None, metadata=key("column that names the image; none: the first one"))


@attrs.frozen(kw_only=True)
class Description:
    """Everything that the description says."""

    images: str | None = field(
        default=None, metadata=key('path of the images, such as "images/{name}.jpg"', path_check)
    )
    csv: Csv | str | None = field(default=None, metadata=key("a CSV with a row per image"))
    splits: Splits = field(factory=Splits, metadata=key("train, val and test"))
    tasks: dict[str, Kind] = field(metadata=key("a table for each task"))
    image_range: tuple[float, float] | None = field(
        default=None, metadata=key("what black and white are in images that are not of 8 bits", range_check)
    )

    @property
    def pattern(self) -> Pattern | None:
        return None if self.images is None else Pattern(self.images)

    @property
    def table(self) -> Csv | None:
        return Csv(file=self.csv) if isinstance(self.csv, str) else self.csv

    @property
    def dense(self) -> dict[str, Dense]:
        return {name: kind for name, kind in self.tasks.items() if isinstance(kind, Dense)}

    @property
    def per_image(self) -> dict[str, PerImage]:
        return {name: kind for name, kind in self.tasks.items() if isinstance(kind, PerImage)}

    def mistakes(self, broken: Collection[str] = ()) -> Iterator[str]:
        """What does not fit together, each with its key.

        :param broken: tables with mistakes of their own, from which nothing follows
        """
        paths_are_known = not {"images", "csv"} & set(broken)
        if not self.tasks and "tasks" not in broken:
            yield "tasks: expected a table for each task, such as [tasks.parts], found none"
        if self.images is None and self.csv is None and paths_are_known:
            yield 'images: missing; expected the path of the images, such as "images/{name}.jpg", or a csv'
        if paths_are_known:
            yield from self._path_mistakes()
        if paths_are_known and "splits" not in broken:
            yield from self._split_mistakes()
        for name, kind in self.tasks.items():
            if not name.isprintable() or "/" in name or "." in name:
                yield f'tasks."{name}": a task\'s name is a word without "/" and "."'
            if paths_are_known:
                yield from self._task_mistakes(f"tasks.{name}", kind)

    def _path_mistakes(self) -> Iterator[str]:
        if self.pattern is not None and not set(self.pattern.placeholders) - {SPLIT}:
            yield f'images: "{self.images}" is one file; expected {{name}} in it'
        for name in PLACEHOLDER.findall(self.table.file) if self.table else ():
            if name != SPLIT:
                yield f'csv.file: a CSV\'s path has no placeholder but {{split}}, found "{{{name}}}"'

    def _split_mistakes(self) -> Iterator[str]:
        if self.splits.column is not None and self.csv is None:
            yield "splits.column: needs a csv"
        if self.splits.column is not None and self.uses_folders:
            yield "splits.column: a path has {split} already; expected one of the two"
        if not (self.splits.texts or self.splits.shares or self.uses_folders):
            yield (
                "splits: missing; expected [splits] with a seeded share (test = 0.2), text files of names"
                ' (train = "train.txt", test = "test.txt"), or {split} in images for a folder of each'
            )

    def _task_mistakes(self, where: str, kind: Kind) -> Iterator[str]:
        known = () if self.pattern is None else self.pattern.placeholders
        if isinstance(kind, Dense):
            used: Iterable[str] = kind.pattern.placeholders
            place = f"{where}.files"
            if self.pattern is None:
                yield f"{place}: label files need images, the path of the images with placeholders"
                return
            if not set(used) - {SPLIT}:
                yield f'{place}: "{kind.files}" is one file for every image; expected {{name}} in it'
        else:
            used = kind.placeholders
            place = f"{where}.column"
            if kind.columns and self.csv is None:
                yield f'{place}: "{kind.columns[0]}" needs a csv with this column'
        for name in used:
            if name not in known:
                has = ", ".join(f"{{{other}}}" for other in known) or "none"
                yield f"{place}: images has no placeholder {{{name}}}{nearest(name, known)} (it has: {has})"

    @property
    def uses_folders(self) -> bool:
        """Whether ``{split}`` stands in the path of the images or of the CSV."""
        paths = [self.images or "", self.table.file if self.table else ""]
        return any(f"{{{SPLIT}}}" in path for path in paths)


def load_description(root: Path, file: str, given: Mapping[str, Any]) -> Description:
    """The description of a folder.

    :param file: the description's file, below the root or anywhere
    :param given: tables of the experiment, which take the place of the file's
    :raises DataError: with every mistake in it
    """
    if not root.is_dir():
        found = "not a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {found}; set plugins.folder.root to the folder with your data")
    path = root / file
    written = _read(path) if path.is_file() or "tasks" not in given else {}
    source = " and ".join([*([str(path)] if written else []), *(["plugins.folder"] if given else [])])
    return _read_description({**written, **given}, source)


def _read_description(tables: Mapping[str, Any], source: str) -> Description:
    """A description from its tables.

    :param source: what messages call them
    :raises DataError: with every mistake in them
    """
    made: dict[str, Any] = {}
    problems = [f"{name}: {unknown_key(name, _KEYS)}" for name in tables if name not in _KEYS]
    broken = set[str]()
    for name in _KEYS:
        if found := _structured(name, tables[name], made) if name in tables else []:
            broken.add(name)
            problems += found
    # what could be read is checked together, so that one mistake does not hide another
    whole = Description(**{"tasks": {}, **made})
    problems += whole.mistakes(broken)
    if problems:
        raise report(source, problems)
    return whole


def report(source: object, problems: Iterable[str]) -> DataError:
    """One error with all problems, a line each."""
    found = list(problems)
    if len(found) == 1:
        names_it = found[0].startswith(str(source))
        return DataError(found[0] if names_it else f"{source}: {found[0]}")
    return DataError("\n  ".join([f"{source}: {len(found)} problems", *found]))


_KEYS = fields(Description)
_TYPES: dict[str, Any] = {
    "images": str,
    "csv": Csv | str,
    "splits": Splits,
    "image_range": tuple[float, float],
}


def _structured(name: str, value: object, made: dict[str, Any]) -> list[str]:
    """Put one table into ``made``; its mistakes."""
    if name == "tasks":
        made["tasks"], problems = _tasks(value)
        return problems
    try:
        made[name] = structure(value, _TYPES[name])
        if check := _KEYS[name].metadata["check"]:
            check(made[name])
    except Wrong as wrong:
        return lines(name, wrong)
    except ValueError as error:
        return [f"{name}: {error}"]
    return []


def _tasks(value: object) -> tuple[dict[str, Kind], list[str]]:
    """Every task that can be read, and the mistakes of the others."""
    if not isinstance(value, Mapping):
        return {}, [f"tasks: expected a table for each task, found {show(value)}"]
    made: dict[str, Kind] = {}
    problems: list[str] = []
    for name, table in value.items():
        try:
            made[name] = structure(table, _class_of(table))
        except Wrong as wrong:
            problems += lines(f"tasks.{name}", wrong)
    return made, problems


def _class_of(table: object) -> Any:
    if not isinstance(table, Mapping):
        raise Wrong(("", f"expected a table, found {show(table)}"))
    kind = table.get("kind")
    if kind is None:
        raise Wrong((".kind", f"missing; expected one of {', '.join(KINDS)}"))
    if not isinstance(kind, str):
        raise Wrong((".kind", f"expected {expected(str)}, found {show(kind)}"))
    if kind not in KINDS:
        raise Wrong((".kind", f"there is no kind {show(kind)}{nearest(kind, KINDS)} (there are: {', '.join(KINDS)})"))
    return KINDS[kind]


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        others = [file.name for file in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise DataError(
            f"{path}: no such file{nearest(path.name, others)}; `mtl data init {path.parent}` writes one, or give"
            " tasks in the experiment"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path}: not valid TOML: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
