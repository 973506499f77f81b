"""From the plugin's options to a data set.

Shape letters: N views.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from mtl_core import DataError, MultiTaskDataset, nearest
from mtl_data import cached
from mtl_taskonomy.choices import RANGES
from mtl_taskonomy.dataset import TaskonomyDataset
from mtl_taskonomy.index import Index
from mtl_taskonomy.keeping import console, open_index
from mtl_taskonomy.labels import Form
from mtl_taskonomy.splits import Buildings, buildings_of, found_buildings

if TYPE_CHECKING:
    from mtl_taskonomy import Taskonomy


def open_split(options: Taskonomy, root: Path, split: str) -> MultiTaskDataset:
    """:raises DataError: a folder, a building or a split file is missing or not of the expected form"""
    index, wanted = _index(options, root), _wanted(options, split)
    numbers = found_buildings(wanted, index.buildings, split, root, options.incomplete)
    rows = _chosen_views(index, numbers, options.views_per_building)
    if len(rows) == 0:
        raise DataError(f"{root}: no image in the buildings of the {split} split ({', '.join(wanted)}); get them again")
    dataset = TaskonomyDataset(root, index, rows, options.tasks, options.size, _form_of(options))
    _tell_unmasked(dataset, split)
    settings = {"tasks": options.tasks, "size": dataset.size, **attrs.asdict(dataset.form)}
    return cached(dataset, dataset.files(), settings, options.cache)


def has_split(options: Taskonomy, root: Path, split: str) -> bool:
    """Whether a split has buildings, and any of them is there."""
    there = {name.casefold() for name in _index(options, root).buildings}
    return any(name.casefold() in there for name in _wanted(options, split))


def _index(options: Taskonomy, root: Path) -> Index:
    return open_index(root, Path(options.index).expanduser() if options.index else None, options.rebuild)


def _wanted(options: Taskonomy, split: str) -> list[str]:
    file = Path(options.split_file).expanduser() if options.split_file else None
    return _without(buildings_of(options.subset, file), options.leave_out, split)


def _form_of(options: Taskonomy) -> Form:
    return Form(
        convention=options.convention,
        depth=options.depth,
        max_depth=options.max_depth,
        ranges=RANGES | options.ranges,
        blur=options.blur,
        mask=options.mask,
    )


def _without(buildings: Buildings, leave_out: Sequence[str], split: str) -> list[str]:
    """A split's buildings, less those that are not to be used."""
    known = {name.casefold() for names in buildings.values() for name in names}
    for name in leave_out:
        if name.casefold() not in known:
            raise DataError(f"taskonomy: leave_out: the subset has no building {name!r}{nearest(name, known)}")
    out = {name.casefold() for name in leave_out}
    return [name for name in buildings[split] if name.casefold() not in out]


def _chosen_views(index: Index, buildings: Sequence[int], views: int | None) -> NDArray[np.int64]:
    """Positions of the views with an image of some buildings (N,), in the index's order.

    :param views: at most this many of each building, evenly spaced
    """
    image = index.having("rgb")
    rows = [np.arange(0)]
    for building in sorted(buildings):
        first = index.starts[building]
        last = index.starts[building + 1]
        own = first + np.flatnonzero(image[first:last])
        rows.append(own if views is None or len(own) <= views else own[np.arange(views) * len(own) // views])
    return np.concatenate(rows)


def _tell_unmasked(dataset: TaskonomyDataset, split: str) -> None:
    if missing := dataset.without_mask():
        console().print(
            f"taskonomy: {missing} of {len(dataset)} views ({split}) have no file for mask = {dataset.form.mask!r};"
            " their labels that are made from the mesh count in every pixel"
        )
