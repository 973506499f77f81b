"""What a folder holds: the tables of ``mtl-folder.toml``, or of the experiment.

Everything that can be checked without looking at images, labels and lists is checked here, every mistake at once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import field
from attrs.validators import optional

from mtl_core import DataError, describe_value, help, nearest, read_options
from mtl_folder.kinds import KINDS, Dense, Kind, PerImage
from mtl_folder.kinds.base import path_check, range_check
from mtl_folder.patterns import PLACEHOLDER, SPLIT, Pattern
from mtl_folder.schema import read_as, valid

_FILE = "mtl-folder.toml"
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

    train: str | None = field(default=None, validator=valid(_share_check), metadata=help("training images"))
    val: str | float | None = field(default=None, validator=valid(_share_check), metadata=help("validation images"))
    test: str | float | None = field(default=None, validator=valid(_share_check), metadata=help("test images"))
    column: str | None = field(default=None, metadata=help("column of the CSV that names each image's split"))
    seed: int = field(default=0, metadata=help("seed of the shares"))

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

    file: str = field(validator=valid(path_check), metadata=help('path of the CSV, such as "labels.csv"'))
    key: str | None = field(default=None, metadata=help("column that names the image; none: the first one"))


@attrs.frozen(kw_only=True)
class Images:
    """Where the images are, and what their values mean."""

    images: str | None = field(
        default=None,
        validator=optional(valid(path_check)),
        metadata=help('path of the images, such as "images/{name}.jpg"'),
    )
    image_range: tuple[float, float] | None = field(
        default=None,
        validator=valid(range_check),
        metadata=help("what black and white are in images that are not of 8 bits"),
    )


@attrs.frozen(kw_only=True)
class Description(Images):
    """Everything that the description says.

    :param csv: a table with a row per image
    :param tasks: name → what its table says
    """

    csv: Csv | None = None
    splits: Splits = field(factory=Splits)
    tasks: dict[str, Kind]

    @property
    def pattern(self) -> Pattern | None:
        return None if self.images is None else Pattern(self.images)

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
        for name in PLACEHOLDER.findall(self.csv.file) if self.csv else ():
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
        paths = [self.images or "", self.csv.file if self.csv else ""]
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
    made: dict[str, Any] = {"tasks": {}}
    problems = [f"{name}: unknown key{nearest(name, _READERS) or _known()}" for name in tables if name not in _READERS]
    broken = set[str]()
    for name, read in _READERS.items():
        if name not in tables:
            continue
        value, found = read(tables[name])
        if found:
            broken.add(name)
            problems += found
        if value is not None:
            made[name] = value
    # what could be read is checked together, so that one mistake does not hide another
    whole = Description(**made)
    problems += whole.mistakes(broken)
    if problems:
        raise report(source, problems)
    return whole


def _known() -> str:
    return f" (known: {', '.join(_READERS)})"


def report(source: object, problems: Iterable[str]) -> DataError:
    """One error with all problems, a line each."""
    found = list(problems)
    if len(found) == 1:
        names_it = found[0].startswith(str(source))
        return DataError(found[0] if names_it else f"{source}: {found[0]}")
    return DataError("\n  ".join([f"{source}: {len(found)} problems", *found]))


def _image_key(name: str) -> _Reader:
    """What reads one key of :class:`Images`."""

    def read(value: object) -> tuple[Any, list[str]]:
        values, problems = read_options(Images, {name: value})
        return (None if problems else values[name]), problems

    return read


def _csv(value: object) -> tuple[Csv | None, list[str]]:
    """A table, or the file's path alone."""
    if not isinstance(value, str | Mapping):
        return None, [f"csv: expected a table or text, found {describe_value(value)}"]
    if isinstance(value, str):
        table, problems = read_as(Csv, {"file": value}, "csv")
        return table, [problem.replace("csv.file", "csv", 1) for problem in problems]
    return read_as(Csv, value, "csv")


def _splits(value: object) -> tuple[Splits | None, list[str]]:
    return read_as(Splits, value, "splits")


def _tasks(value: object) -> tuple[dict[str, Kind], list[str]]:
    """Every task that can be read, and the mistakes of the others."""
    if not isinstance(value, Mapping):
        return {}, [f"tasks: expected a table for each task, found {describe_value(value)}"]
    made: dict[str, Kind] = {}
    problems: list[str] = []
    for name, table in value.items():
        task, found = _task(table, f"tasks.{name}")
        problems += found
        if task is not None:
            made[name] = task
    return made, problems


def _task(table: object, path: str) -> tuple[Kind | None, list[str]]:
    """A task's table as the class of its kind."""
    if not isinstance(table, Mapping):
        return None, [f"{path}: expected a table, found {describe_value(table)}"]
    kind = table.get("kind")
    known = ", ".join(KINDS)
    if kind is None:
        return None, [f"{path}.kind: missing; expected one of {known}"]
    if not isinstance(kind, str):
        return None, [f"{path}.kind: expected text, found {describe_value(kind)}"]
    if kind not in KINDS:
        told = f"there is no kind {describe_value(kind)}{nearest(kind, KINDS)} (there are: {known})"
        return None, [f"{path}.kind: {told}"]
    return read_as(KINDS[kind], table, path)


_Reader = Callable[[object], tuple[Any, list[str]]]
"""A value → what it is read as (None where it cannot be), and every mistake in it."""

_READERS: dict[str, _Reader] = {
    "images": _image_key("images"),
    "csv": _csv,
    "splits": _splits,
    "tasks": _tasks,
    "image_range": _image_key("image_range"),
}
"""The keys of a description, each with what reads it."""


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
