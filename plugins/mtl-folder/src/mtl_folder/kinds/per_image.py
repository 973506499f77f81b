"""A class, or numbers, per image, from a column of the CSV or from a part of the image's path.

Shape letters: O values of the task.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal

import attrs
import torch
from attrs import field
from torch import Tensor

from mtl_core import Classification, Task, help, nearest
from mtl_folder.files import Unfit
from mtl_folder.image_regression import ImageRegression
from mtl_folder.kinds.base import as_tuple, range_check
from mtl_folder.kinds.maps import LARGE
from mtl_folder.kinds.segmentation import class_check
from mtl_folder.patterns import PLACEHOLDER
from mtl_folder.schema import valid

MISSING = ("na", "n/a", "nan", "null", "none", "-", "?", "unknown", "missing")
"""How people write that there is no value."""


@attrs.frozen(kw_only=True)
class PerImage:
    """A task whose label is text: cells of the CSV's columns, or placeholders of the image's path."""

    column: str | tuple[str, ...] = field(metadata=help('column of the CSV, or a placeholder of images as "{class}"'))
    ignored: str | int | float | tuple[str | int | float, ...] = field(
        default=(), metadata=help("cells that are no label, beside empty ones")
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the CSV."""
        return tuple(name for name in as_tuple(self.column) if not is_placeholder(name))

    @property
    def placeholders(self) -> tuple[str, ...]:
        return tuple(name[1:-1] for name in as_tuple(self.column) if is_placeholder(name))

    def is_missing(self, cell: str) -> bool:
        return cell == "" or cell in map(str, as_tuple(self.ignored))

    def completed(self, cells: Sequence[str]) -> PerImage:
        """The same with what the data set's cells show.

        :raises Unfit: they do not show enough
        """
        return self

    def task(self, name: str) -> Task:
        """The task that the network learns."""
        raise NotImplementedError

    def label(self, cells: Sequence[str]) -> Tensor | None:
        """The label of an image, None where it has none.

        :param cells: one for each of ``column``
        :raises Unfit: a cell that is no value
        """
        raise NotImplementedError

    def blank(self) -> Tensor:
        """The label of an image that has none."""
        raise NotImplementedError

    def doubts(self, labels: Sequence[Tensor]) -> Iterator[Unfit]:
        """What is allowed and hardly meant, of all the labels of a split."""
        return iter(())


@attrs.frozen(kw_only=True)
class ClassificationCells(PerImage):
    """A class per image."""

    kind: Literal["classification"] = field(metadata=help("kind of task"))
    classes: tuple[str, ...] | dict[str, str | int | float | tuple[str | int | float, ...]] | None = field(
        default=None,
        validator=valid(class_check),
        metadata=help("names, as in the cells, or a table: name → cell or cells; none: all cells there are"),
    )

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if not isinstance(self.column, str):
            yield "column", "expected one column, found a list; for several classes write a task for each"
        seen: dict[str, str] = {}
        for name, cells in self._cells.items():
            for cell in cells:
                if cell in seen:
                    yield "classes", f'"{name}": the cell "{cell}" is "{seen[cell]}" already'
                seen[cell] = name

    @property
    def _cells(self) -> dict[str, tuple[str, ...]]:
        table = self.classes if isinstance(self.classes, dict) else {name: name for name in self.classes or ()}
        return {name: tuple(map(str, as_tuple(cells))) for name, cells in table.items()}

    @cached_property
    def _index(self) -> dict[str, int]:
        """Cell → class."""
        return {cell: index for index, cells in enumerate(self._cells.values()) for cell in cells}

    def completed(self, cells: Sequence[str]) -> PerImage:
        if self.classes is not None:
            return self
        found = sorted({cell for cell in cells if not self.is_missing(cell)}, key=_number_first)
        if len(found) < 2:
            raise Unfit(f"{len(found)} classes in {self.column}", "two or more", "is it the right column?")
        return attrs.evolve(self, classes=tuple(found))

    def task(self, name: str) -> Classification:
        names = tuple(self._cells)
        return Classification(name=name, channels=len(names), classes=names)

    def label(self, cells: Sequence[str]) -> Tensor | None:
        (cell,) = cells
        if self.is_missing(cell):
            return None
        if cell not in self._index:
            raise self._unknown(cell)
        return torch.tensor(self._index[cell])

    def _unknown(self, cell: str) -> Unfit:
        known = list(self._index)
        expected = f"one of {', '.join(known[:6])}{' …' if len(known) > 6 else ''}{nearest(cell, known)}"
        remedy = f'write ignored = "{cell}"' if cell.lower() in MISSING else "name it in classes, or mend the cell"
        return Unfit(f'"{cell}"', expected, remedy)

    def blank(self) -> Tensor:
        return torch.tensor(-1)

    def doubts(self, labels: Sequence[Tensor]) -> Iterator[Unfit]:
        counts = Counter(map(int, labels))
        if len(labels) > 1 and len(counts) == 1:
            yield Unfit("one class for every image", "two or more", "is it the right column, and the right split?")
        elif len(labels) >= 20 and len(counts) > len(labels) / 2:
            remedy = 'are these numbers (kind = "image-regression") or names of images?'
            yield Unfit(f"{len(counts)} classes for {len(labels)} images", "several images per class", remedy)


@attrs.frozen(kw_only=True)
class RegressionCells(PerImage):
    """Numbers per image."""

    kind: Literal["image-regression"] = field(metadata=help("kind of task"))
    unit: str = field(default="", metadata=help("unit of the values"))
    mean: float | tuple[float, ...] = field(
        default=(), metadata=help("typical value of each column; the head learns (value − mean) / deviation")
    )
    deviation: float | tuple[float, ...] = field(default=(), metadata=help("typical distance from mean of each column"))
    loss: Literal["l1", "l2"] = field(default="l1", metadata=help("absolute or squared error"))
    decimal: Literal[".", ","] = field(default=".", metadata=help("what stands before the decimals"))
    range: tuple[float, float] | None = field(
        default=None, validator=valid(range_check), metadata=help("lowest and highest value that may be")
    )

    def mistakes(self) -> Iterator[tuple[str, str]]:
        for name in ("mean", "deviation"):
            values = as_tuple(getattr(self, name))
            if values and len(values) != len(as_tuple(self.column)):
                yield name, f"expected {len(as_tuple(self.column))} (one per column), found {len(values)}"
        if any(value <= 0 for value in as_tuple(self.deviation)):
            yield "deviation", f"expected numbers above 0, found {self.deviation}"

    def task(self, name: str) -> ImageRegression:
        columns = as_tuple(self.column)
        return ImageRegression(
            name=name, channels=len(columns), outputs=columns, measured_in=self.unit, error=self.loss,
            mean=as_tuple(self.mean), deviation=as_tuple(self.deviation),
        )  # fmt: skip

    def label(self, cells: Sequence[str]) -> Tensor | None:
        values = [math.nan if self.is_missing(cell) else self._number(cell) for cell in cells]
        return None if all(map(math.isnan, values)) else torch.tensor(values)

    def _number(self, cell: str) -> float:
        try:
            value = float(cell.replace(",", ".") if self.decimal == "," else cell)
        except ValueError:
            raise self._no_number(cell) from None
        if not math.isfinite(value):
            raise self._no_number(cell)
        if self.range is not None and not self.range[0] <= value <= self.range[1]:
            expected = f"{self.range[0]:g} to {self.range[1]:g}"
            raise Unfit(cell, expected, "correct range, or the cell")
        return value

    def _no_number(self, cell: str) -> Unfit:
        if cell.lower() in MISSING or cell.lower().lstrip("+-") in ("inf", "infinity"):
            remedy = f'write ignored = "{cell}"'
        elif self.decimal == "." and cell.count(",") == 1 and _is_number(cell.replace(",", ".")):
            remedy = 'write decimal = ","'
        else:
            remedy = 'mend the cell; for classes: kind = "classification"'
        return Unfit(f'"{cell}"', "a number", remedy)

    def blank(self) -> Tensor:
        return torch.full((len(as_tuple(self.column)),), math.nan)

    def doubts(self, labels: Sequence[Tensor]) -> Iterator[Unfit]:
        if self.mean != () or self.deviation != () or self.range is not None:
            return
        values = torch.stack(list(labels))
        known = values[values.isfinite()]
        if float(known.abs().max()) > LARGE:
            found = f"values {float(known.min()):.4g} to {float(known.max()):.4g}"
            mean, deviation = _typical(values)
            remedy = f"write mean = {mean} and deviation = {deviation}; if it is right as it is: a range"
            yield Unfit(found, f"values below {LARGE:g}, as a head begins near 0", remedy)


def is_placeholder(column: str) -> bool:
    return PLACEHOLDER.fullmatch(column) is not None


def _typical(values: Tensor) -> tuple[Any, Any]:
    """Mean and deviation of each column as TOML."""
    columns = [column[column.isfinite()] for column in values.unbind(1)]
    rows = [float(f"{float(c.mean()):.3g}") for c in columns], [float(f"{float(c.std()):.3g}") for c in columns]
    mean, deviation = (list(row) if len(row) > 1 else row[0] for row in rows)
    return mean, deviation


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _number_first(cell: str) -> tuple[bool, float, str]:
    """A key that sorts 2 before 10, and numbers before words."""
    return not _is_number(cell), float(cell) if _is_number(cell) else 0.0, cell
