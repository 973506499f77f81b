"""What every kind of task says of its files: keys in the description, labels from raw values, doubts.

Shape letters: C channels, H and W image size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import torch
from attrs import field
from numpy.typing import NDArray
from torch import Tensor

from mtl_core import Task, help
from mtl_folder.files import Raw, Unfit
from mtl_folder.patterns import Pattern
from mtl_folder.schema import valid

_Numbers = float | tuple[float, ...]


def path_check(value: str) -> None:
    for mistake in Pattern(value).mistakes():
        raise ValueError(mistake)


def range_check(value: tuple[float, float] | None) -> None:
    if value is not None and not value[0] < value[1]:
        raise ValueError(f"expected [lowest, highest], found [{value[0]:g}, {value[1]:g}]")


def _scale_check(value: float | None) -> None:
    if value is not None and value == 0:
        raise ValueError("expected a number other than 0, found 0")


@attrs.frozen(kw_only=True)
class Dense:
    """A task with a label file for each image."""

    files: str = field(
        validator=valid(path_check), metadata=help('path of the label files, such as "masks/{name}.png"')
    )

    @property
    def pattern(self) -> Pattern:
        return Pattern(self.files)

    def task(self, name: str) -> Task:
        """The task that the network learns."""
        raise NotImplementedError

    def label(self, raw: Raw) -> Tensor:
        """The label of a file, at the file's size.

        :raises Unfit: values that the description does not allow
        """
        raise NotImplementedError

    def resized(self, label: Tensor, size: tuple[int, int]) -> Tensor:
        """The label at another (H, W)."""
        raise NotImplementedError

    def blank(self, size: tuple[int, int]) -> Tensor:
        """The label of an image that has none."""
        raise NotImplementedError

    def doubts(self, raw: Raw, label: Tensor) -> Iterator[Unfit]:
        """What is allowed and hardly meant; looked at before the first step only."""
        return iter(())


@attrs.frozen(kw_only=True)
class Scaled(Dense):
    """A label of numbers: value · ``scale`` + ``offset``."""

    scale: float | None = field(
        default=None, validator=valid(_scale_check), metadata=help("factor of the file's values")
    )
    offset: float = field(default=0.0, metadata=help("added after the factor"))
    ignored: _Numbers = field(default=(), metadata=help("values of the file that are no label"))

    def numbers(self, raw: Raw, scale: float) -> NDArray[Any]:
        """The file's values in their unit as float32, NaN where they are no label."""
        values = raw.values.astype(np.float64)  # so that 1234 mm are the float32 nearest to 1.234 m
        known = np.isfinite(values)
        if ignored := as_tuple(self.ignored):
            known &= ~np.isin(raw.values, ignored)
        return np.where(known, values * scale + self.offset, np.nan).astype(np.float32)


def as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def one_channel(raw: Raw, hint: str) -> NDArray[Any]:
    """The values of a file with one channel.

    :raises Unfit: it has several, and they differ
    """
    values = raw.values
    if values.ndim == 2:
        return values
    if raw.is_whole and (values == values[..., :1]).all():
        return values[..., 0]
    raise Unfit(raw.form, "one channel", hint)


def plane(values: NDArray[Any]) -> Tensor:
    """(H, W) → (1, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(values))[None]


def listed(values: NDArray[Any], most: int = 8) -> str:
    """Distinct values as text, the first few."""
    shown = [f"{value:g}" for value in values[:most]]
    return ", ".join(shown) + (f" and {len(values) - most} more" if len(values) > most else "")
