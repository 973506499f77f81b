"""From what lies in a folder to a description with its guesses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs
from PIL import Image

from mtl_core import DataError
from mtl_folder.description import SPLITS
from mtl_folder.files import pixels, read_image
from mtl_folder.find import Item, Keys
from mtl_folder.init import cells, labels
from mtl_folder.init.cells import Sheet
from mtl_folder.init.groups import File, Group, groups, matched, shared, walk
from mtl_folder.init.hints import HINTS, is_photograph
from mtl_folder.init.write import Entry, Line
from mtl_folder.patterns import ARRAYS

_SIZES = 200
"""Images whose size is looked at."""
_TEST = 0.2
_HEAD = """\
# Guesses, written by `mtl data init` from what lies in this folder. Correct them, and give the classes their names.
# Everything is checked before training; `mtl data check` reads all files.
"""


@attrs.frozen
class Plan:
    """A description with its guesses.

    :param sizes: (H, W) of images that were looked at, the most frequent first
    :param notes: what was found and left out
    """

    images: Group
    sizes: tuple[tuple[int, int], ...]
    sheet: Sheet | None
    splits: list[Line]
    tasks: dict[str, Entry]
    notes: list[str]

    @property
    def has_one_size(self) -> bool:
        return len(self.sizes) == 1

    def summary(self) -> list[str]:
        """What was found, a line each."""
        sizes = " and ".join(map(pixels, self.sizes[:2])) + (" and others" if len(self.sizes) > 2 else "")
        lines = [f"{len(self.images.files)} images, {sizes}: {self.images.pattern}"]
        if self.sheet is not None:
            lines.append(f"{self.sheet.rows} rows: {self.sheet.file}")
        lines += [f"{name}: {entry.kind} ({entry.lines[0].note})" for name, entry in self.tasks.items()]
        return lines + self.notes

    def toml(self) -> str:
        """The description as TOML, with a comment behind each guess."""
        parts = [_HEAD, str(Line("images", self.images.pattern, f"{len(self.images.files)} images"))]
        if not self.has_one_size:
            parts.append("# images have several sizes: set size = [height, width] in the experiment")
        if self.sheet is not None:
            table = {"file": self.sheet.file, "key": self.sheet.key}
            parts.append(str(Line("csv", table, f"{self.sheet.rows} rows, {self.sheet.hits} of them name an image")))
        parts += ["", "[splits]", *map(str, self.splits)]
        parts += [f"\n{entry.text(f'tasks.{name}')}" for name, entry in self.tasks.items()]
        if not self.tasks:
            parts.append("\n# no labels were found: add a table [tasks.NAME] for each task")
        if self.notes:
            parts += ["", *(f"# {note}" for note in self.notes)]
        return "\n".join(parts) + "\n"


def look(root: Path) -> Plan:
    """Look at a folder.

    :raises DataError: there is no such folder, or no images in it
    """
    if not root.is_dir():
        raise DataError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}; expected one with images")
    found = groups(root)
    if not found:
        raise DataError(f"{root}: no images in it; expected pictures (.jpg, .png …) or arrays (.npy), in any folders")
    images, others = _images(found)
    tasks = list[Entry]()
    notes = list[str]()
    for group in others:
        images = _add_labels(images, group, tasks, notes)
    files = list(walk(root))
    items = [Item("/".join(images.name(file)[1:]).strip("/"), file.path, {}) for file in images.files]
    sheets = cells.find_sheets(root, [path for path in files if path.suffix.lower() in (".csv", ".tsv")], items)
    sheet = sheets[0] if sheets else None
    notes += [f"{other.file}: a second CSV, left out" for other in sheets[1:]]
    splits = _splits(root, images, sheet, files, items)
    tasks += _columns(sheet, splits, notes) if sheet is not None else []
    if "{folder}" in images.folder and not tasks:
        tasks.append(_folders(images))
    return Plan(images, _sizes(images), sheet, splits, _named(tasks), notes)


def _images(found: Sequence[Group]) -> tuple[Group, list[Group]]:
    """The group that the images are in, and the others."""

    def score(group: Group) -> tuple[int, int]:
        named = 4 * bool(group.words & HINTS["images"])
        others = any(group.words & words for kind, words in HINTS.items() if kind != "images")
        photograph = 2 * is_photograph(group.files[0].path)
        return named - 3 * others + photograph - (group.ending in ARRAYS), len(group.files)

    images = max(found, key=score)
    return images, [group for group in found if group is not images]


def _add_labels(images: Group, group: Group, tasks: list[Entry], notes: list[str]) -> Group:
    """Add the task that a group holds, or a note why there is none; the images with the pattern that fits it."""
    pair = matched(images, group)
    if pair is None:
        notes.append(f"{group.pattern}: {len(group.files)} files without an image of their name, left out")
        return images
    images, group = pair
    entry = labels.guess(group, len(images.files), shared(images, group))
    if entry is None:
        notes.append(f"{group.pattern}: {len(group.files)} files that fit no kind of label, left out")
    else:
        tasks.append(attrs.evolve(entry, name=f"{entry.name}\0{_own_word(group)}"))
    return images


def _own_word(group: Group) -> str:
    """A word that distinguishes a group from another of its kind."""
    parts = [part for part in group.folder.split("/") if part not in (".", "{split}", "{folder}")]
    return (group.after or group.before or (parts[-1] if parts else "labels")).strip("_-.").replace(".", "-").lower()


def _named(tasks: Iterable[Entry]) -> dict[str, Entry]:
    """Tasks by their names: the kind's where it is the only one of its kind, else that of the files."""
    listed = list(tasks)
    counts = Counter(entry.name.partition("\0")[0] for entry in listed)
    named: dict[str, Entry] = {}
    for entry in listed:
        kind, _, word = entry.name.partition("\0")
        name = word if word and (counts[kind] > 1 or kind == "regression") else kind
        while name in named:
            name += "-2"
        named[name] = entry
    return named


def _folders(images: Group) -> Entry:
    """Images in folders of their class."""
    names = sorted({file.between for file in images.files})
    note = f"{len(names)} folders beside each other, taken as classes"
    return Entry("class", [Line("kind", "classification", note), Line("column", "{folder}"), Line("classes", names)])


def _columns(sheet: Sheet, splits: Sequence[Line], notes: list[str]) -> list[Entry]:
    used = {line.value for line in splits if line.key == "column"}
    made = []
    for column in sheet.columns:
        entry = cells.guess(sheet, column) if column not in used else None
        if isinstance(entry, Entry):
            made.append(entry)
        elif entry is not None:
            notes.append(f'column "{column}": {entry}, left out')
    return made


def _splits(root: Path, images: Group, sheet: Sheet | None, files: Sequence[Path], items: Sequence[Item]) -> list[Line]:
    if images.splits:
        return _complete(images.splits, "folder")
    if sheet is not None and sheet.splits:
        return _complete(sheet.splits, "CSV")
    if sheet is not None and (column := cells.split_column(sheet)) is not None:
        return [Line("column", column[0], "names each image's split"), *_complete(column[1], "cell")]
    lists = _lists(root, files, items)
    return (
        _complete(lists, "list") if lists else [Line("test", _TEST, "no split was found: a seeded fifth for testing")]
    )


def _complete(found: Mapping[str, str], what: str) -> list[Line]:
    """Lines for the splits that were found; a test split is needed, and a training split."""
    lines = [Line(split, found[split], f"{what} that was found") for split in SPLITS if split in found]
    if "test" in found:
        return lines
    if "val" in found:
        return [*lines[:-1], Line("test", found["val"], f"the only {what} beside training; there is none for testing")]
    return [*lines, Line("test", _TEST, f"no {what} for testing was found: a seeded fifth of the training images")]


def _lists(root: Path, files: Sequence[Path], items: Sequence[Item]) -> dict[str, str]:
    """Text files of names, by split."""
    from mtl_folder.init.groups import SPLIT_OF

    keys = Keys(root, items)
    found = dict[str, str]()
    for path in files:
        split = SPLIT_OF.get(path.stem.lower())
        if path.suffix.lower() == ".txt" and split is not None and split not in found:
            lines = [line.strip() for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
            if lines and all(keys.get(line) is not None for line in lines[:100]):
                found[split] = path.relative_to(root).as_posix()
    return found


def _sizes(images: Group) -> tuple[tuple[int, int], ...]:
    """Sizes of the images, the most frequent first."""
    step = max(1, len(images.files) // _SIZES)
    counts = Counter(size for file in images.files[::step] if (size := _size(file)) is not None)
    return tuple(size for size, _ in counts.most_common())


def _size(file: File) -> tuple[int, int] | None:
    try:
        if file.path.suffix.lower() in ARRAYS:
            height, width = read_image(file.path, None).shape[-2:]
        else:
            with Image.open(file.path) as picture:
                width, height = picture.size
    except Exception:
        return None
    return int(height), int(width)
