"""Which images there are, and which split each belongs to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import attrs

from mtl_core import DataError, nearest
from mtl_folder.description import FOLDERS, SPLITS, Description, report
from mtl_folder.patterns import SPLIT, Listing, Pattern, in_order
from mtl_folder.table import Row, Table, read_table

_SHOWN = 3
"""Mistakes of one kind that are listed one by one."""


@attrs.frozen(eq=False)
class Item:
    """One image.

    :param name: what distinguishes it from the others of its split
    :param values: placeholder → what stands for it in the image's path
    :param row: its row of the CSV, None where it has none
    """

    name: str
    path: Path
    values: Mapping[str, str]
    row: Row | None = None


class Stopped(Exception):
    """Nothing further can be looked at; the problems say why."""


class Problems:
    """What is wrong with a folder, a line each."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, *texts: str) -> None:
        self.found += texts

    def add_some(self, texts: Sequence[str]) -> None:
        """The first few of many, and how many more there are."""
        self.found += texts[:_SHOWN]
        if len(texts) > _SHOWN:
            self.found.append(f"… and {len(texts) - _SHOWN} more like the last one")

    def stop(self, *texts: str) -> Stopped:
        """Add problems after which nothing can be looked at; to be raised."""
        self.add(*texts)
        return Stopped()


@attrs.frozen(eq=False)
class Finder:
    """Looks at one folder."""

    root: Path
    description: Description
    listing: Listing = attrs.field(factory=Listing)
    problems: Problems = attrs.field(factory=Problems)

    def splits(self) -> dict[str, list[Item]]:
        """The images of every split that the description has, in order.

        :raises DataError: with everything that is wrong
        """
        found: dict[str, list[Item]] = {}
        with contextlib.suppress(Stopped):
            found = self._divided()
        for split, items in found.items():
            self._check_items(split, items)
        self._check_apart(found)
        if self.problems.found:
            raise report(self.root, self.problems.found)
        return found

    def _divided(self) -> dict[str, list[Item]]:
        splits = self.description.splits
        if self.description.uses_folders:
            groups = self._by_folder()
            rest = list[Item]()
        else:
            pool = self._joined(self._images({}), self._table({}))
            groups = {split: self._chosen(split, text, pool) for split, text in splits.texts.items()}
            taken = {item.path for items in groups.values() for item in items}
            rest = [item for item in pool if item.path not in taken]
        training = groups.get("train", rest)
        if training or splits.shares:
            groups = {**groups, **_share_out(training, splits.shares, splits.seed)}
        return {split: groups[split] for split in SPLITS if split in groups}

    def _by_folder(self) -> dict[str, list[Item]]:
        """The splits that have a folder, or a CSV, of their own."""
        pattern = self.description.pattern
        csv = self.description.csv
        own_images = pattern is None or SPLIT in pattern.placeholders
        own_rows = csv is None or f"{{{SPLIT}}}" in csv.file
        shared = None if own_images else self._images({})
        groups = {}
        for split, text in self._folders().items():
            known = {SPLIT: text}
            images = self._images(known) if own_images else shared
            items = self._joined(images, self._table(known), check=own_rows)
            groups[split] = items if own_images else [item for item in items if item.row is not None]
        if not own_rows:
            self._check_rows([item for items in groups.values() for item in items], self._table({}))
        return groups

    def _folders(self) -> dict[str, str]:
        """Split → what stands for ``{split}``; names that the description does not give are found."""
        texts = self.description.splits.texts
        shares = self.description.splits.shares
        found = {}
        for split in SPLITS:
            if split in texts:
                found[split] = texts[split]
            elif split not in shares:
                free = [name for name in FOLDERS[split] if name not in texts.values()]
                there = [name for name in free if self._is_there(name)]
                found |= {split: there[0]} if there else {}
        if not found:
            tried = ", ".join(names[0] for names in FOLDERS.values())
            where = self.description.images or (self.description.csv and self.description.csv.file)
            raise self.problems.stop(
                f"splits: no folder fits {{split}} in {where} (tried: {tried}); name them in [splits]"
            )
        return found

    def _is_there(self, name: str) -> bool:
        pattern = self.description.pattern
        table = self.description.csv
        if pattern is not None and SPLIT in pattern.placeholders:
            return bool(pattern.find(self.root, {SPLIT: name}, self.listing))
        return table is not None and (self.root / table.file.replace(f"{{{SPLIT}}}", name)).is_file()

    def _images(self, known: Mapping[str, str]) -> list[Item] | None:
        """The images that the pattern finds; None where the CSV names them."""
        pattern = self.description.pattern
        if pattern is None:
            return None
        found = pattern.find(self.root, known, self.listing)
        if not found:
            raise self.problems.stop(f"images: {self._nothing(pattern, known)}")
        return [Item(_name(pattern, values), path, values) for values, path in found]

    def _nothing(self, pattern: Pattern, known: Mapping[str, str]) -> str:
        """Why a pattern finds nothing: the folder that is missing, or what is in it."""
        folder = self.root
        for part in pattern.shown(known).split("/")[:-1]:
            if "{" in part:
                break
            if not (folder / part).is_dir():
                beside = self.listing[folder].folders
                has = f" (there are: {', '.join(list(beside)[:8])})" if beside else ""
                return f"no folder {folder / part}{nearest(part, beside) or has}"
            folder = folder / part
        files = list(self.listing[folder].files)
        has = f"; {folder} has {len(files)} files, such as {files[0]}" if files else f"; {folder} has no files"
        return f'no file fits "{pattern.shown(known)}"{has}'

    def _table(self, known: Mapping[str, str]) -> Table | None:
        csv = self.description.csv
        if csv is None:
            return None
        try:
            table = read_table(self.root / csv.file.replace(f"{{{SPLIT}}}", known.get(SPLIT, "")))
        except DataError as error:
            raise self.problems.stop(str(error)) from None
        wanted = {"csv.key": csv.key, "splits.column": self.description.splits.column}
        for name, kind in self.description.per_image.items():
            wanted |= {f"tasks.{name}.column": column for column in kind.columns}
        missing = {where: column for where, column in wanted.items() if column and column not in table.columns}
        if missing:
            has = f" (it has: {', '.join(table.columns)})"
            raise self.problems.stop(
                *(
                    f'{w}: {table.path} has no column "{c}"{nearest(c, table.columns) or has}'
                    for w, c in missing.items()
                )
            )
        return table

    def _key(self, table: Table) -> str:
        csv = self.description.csv
        return csv.key if csv is not None and csv.key else table.columns[0]

    def _joined(self, images: list[Item] | None, table: Table | None, check: bool = True) -> list[Item]:
        """Images with their rows of the CSV.

        :param check: whether every row must have an image among these
        """
        if table is None:
            return images or []
        if images is None:
            return self._named(table)
        keys = Keys(self.root, images)
        rows: dict[Path, Row] = {}
        for row in table.rows:
            item = keys.get(row.cells[self._key(table)])
            if item is not None and rows.setdefault(item.path, row) is not row:
                first = rows[item.path].line
                self.problems.add(f"{row}: {item.name} is in line {first} already; expected a row per image")
        if check:
            self._check_rows(images, table)
        return [attrs.evolve(item, row=rows.get(item.path)) for item in images]

    def _check_rows(self, images: Sequence[Item], table: Table | None) -> None:
        """Every row names an image."""
        assert table is not None
        keys = Keys(self.root, images)
        key = self._key(table)
        lost = [row for row in table.rows if keys.get(row.cells[key]) is None]
        if len(lost) == len(table.rows):
            raise self.problems.stop(
                f'{table.path}: no cell of column "{key}" names an image; found "{lost[0].cells[key]}", expected one'
                f' such as "{images[0].path.name}"; name the column of the images in csv.key'
            )
        self.problems.add_some([f"{r}: {self._no_image(keys, r.cells[key], key)}" for r in lost])

    def _no_image(self, keys: Keys, cell: str, key: str) -> str:
        if keys.is_ambiguous(cell):
            return f'"{cell}" names several images; write their folders in column "{key}"'
        return f'there is no image "{cell}"; copy the image, or remove the row'

    def _named(self, table: Table) -> list[Item]:
        """The images that a CSV names, relative to itself or to the root."""
        found = list[Item]()
        lost = list[str]()
        key = self._key(table)
        for row in table.rows:
            cell = row.cells[key].replace("\\", "/").removeprefix("./")
            path = next((p for p in (table.path.parent / cell, self.root / cell) if cell and p.is_file()), None)
            if path is None:
                lost.append(f'{row}: there is no image "{cell}"')
            else:
                found.append(Item(cell, path, {}, row))
        if not found:
            raise self.problems.stop(
                f'{table.path}: no cell of column "{key}" is the path of an image, relative to {self.root}; write where'
                ' the images are (images = "photos/{name}.jpg"), or csv.key, the column that names them'
            )
        self.problems.add_some(lost)
        return found

    def _chosen(self, split: str, text: str, pool: Sequence[Item]) -> list[Item]:
        """The images of one split, by a column of the CSV or by a list."""
        column = self.description.splits.column
        if column is None:
            return self._from_list(split, text, pool)
        chosen = [item for item in pool if item.row is not None and item.row.cells[column] == text]
        if not chosen:
            cells = {item.row.cells[column] for item in pool if item.row is not None}
            has = f" (it has: {', '.join(sorted(cells)[:8])})"
            self.problems.add(f'splits.{split}: column "{column}" has no cell "{text}"{nearest(text, cells) or has}')
        return chosen

    def _from_list(self, split: str, text: str, pool: Sequence[Item]) -> list[Item]:
        path = self.root / text
        if not path.is_file():
            others = [file.name for file in path.parent.glob("*.txt")] if path.parent.is_dir() else []
            hint = nearest(path.name, others) or "; expected a text file with the name of an image per line"
            self.problems.add(f"splits.{split}: there is no file {path}{hint}")
            return []
        keys = Keys(self.root, pool)
        chosen = dict[Path, Item]()
        lost = list[str]()
        for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
            cell = line.strip()
            item = keys.get(cell)
            if item is not None:
                chosen[item.path] = item
            elif cell and not cell.startswith("#"):
                lost.append(f"{path}, line {number}: {self._no_image(keys, cell, 'name')}")
        self.problems.add_some(lost)
        return sorted(chosen.values(), key=lambda item: in_order(item.name))

    def _check_items(self, split: str, items: Sequence[Item]) -> None:
        if not items and not self.problems.found:
            self.problems.add(f"splits.{split}: no image belongs to it")
        seen: dict[str, Item] = {}
        twice = [item for item in items if seen.setdefault(item.name, item) is not item]
        self.problems.add_some(
            [f"{i.path}: has the name of {seen[i.name].path.name}; expected one file per name" for i in twice]
        )

    def _check_apart(self, splits: Mapping[str, Sequence[Item]]) -> None:
        """No image is in two splits."""
        owner: dict[Path, str] = {}
        for split, items in splits.items():
            both = [item for item in items if owner.setdefault(item.path, split) != split]
            if both:
                self.problems.add(
                    f"splits: {len(both)} images are in {owner[both[0].path]} and in {split}, such as {both[0].name};"
                    " expected no image in two splits"
                )


class Keys:
    """Images by whatever may name them: path, file, with and without ending."""

    def __init__(self, root: Path, items: Iterable[Item]) -> None:
        self._known: dict[str, Item | None] = {}
        for item in items:
            for key in _keys(root, item):
                same = self._known.setdefault(key, item) is item
                self._known[key] = item if same else None

    def get(self, cell: str) -> Item | None:
        return next((item for key in _tails(cell) if (item := self._known.get(key)) is not None), None)

    def is_ambiguous(self, cell: str) -> bool:
        return any(key in self._known for key in _tails(cell))


def _keys(root: Path, item: Item) -> set[str]:
    relative = item.path.relative_to(root)
    paths = {relative.as_posix(), relative.with_suffix("").as_posix(), item.path.name, item.path.stem, item.name}
    parts = relative.parts
    return paths | {"/".join(parts[start:]) for start in range(len(parts))}


def _tails(cell: str) -> Iterator[str]:
    """A path, and what is left of it when folders are taken away from the left."""
    text = cell.replace("\\", "/").removeprefix("./")
    while text:
        yield text
        text = text.partition("/")[2]


def _name(pattern: Pattern, values: Mapping[str, str]) -> str:
    return "/".join(values[name] for name in pattern.placeholders if name != SPLIT)


def _share_out(pool: Sequence[Item], shares: Mapping[str, float], seed: int) -> dict[str, list[Item]]:
    """Seeded shares of a pool, and what is left of it for training; each in the pool's order.

    The draw is by the images' names, so that a further image moves few of the others.
    """
    drawn = sorted(pool, key=lambda item: blake2b(f"{seed}/{item.name}".encode(), digest_size=8).digest())
    chosen: dict[str, set[Path]] = {}
    first = 0
    for split, share in shares.items():
        count = max(1, round(share * len(pool)))
        chosen[split] = {item.path for item in drawn[first : first + count]}
        first += count
    taken = set[Path]().union(*chosen.values())
    divided = {split: [item for item in pool if item.path in paths] for split, paths in chosen.items()}
    return {"train": [item for item in pool if item.path not in taken], **divided}
