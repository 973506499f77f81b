"""Own data without code: a folder of images with labels as files or in a CSV, and a small TOML that describes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field
from attrs.validators import min_len

from mtl_core import help, hookimpl, plugin
from mtl_data import positive_size

if TYPE_CHECKING:
    from mtl_core import MultiTaskDataset
    from mtl_folder.opening import FolderData

__all__ = ["Folder"]

_Table = dict[str, Any]


def _not_negative(instance: object, attribute: Any, value: int | None) -> None:
    if value is not None and value < 0:
        raise ValueError(f'expected a number of samples, 0 for none, or "none" for all, found {value}')


@plugin
class Folder:
    """Images in a folder, labels as files beside them or in a CSV; ``mtl-folder.toml`` there says what is what.

    ``mtl data init FOLDER`` writes that file with its guesses. ``images``, ``csv``, ``splits``, ``tasks`` and
    ``image_range`` in the experiment take the place of the file's tables of these names; with ``tasks`` no file is
    needed. Samples are read and checked against the description before the first step.
    """

    root: str = field(validator=min_len(1), metadata=help("folder with the data"))
    description: str = field(
        default="mtl-folder.toml", validator=min_len(1), metadata=help("file that describes it, relative to root")
    )
    size: tuple[int, int] | None = field(
        default=None, validator=positive_size, metadata=help("(height, width) in pixels; none: the files' own")
    )
    images: str | None = field(
        default=None, metadata=help('path of the images, such as "images/{name}.jpg"; none: the description\'s')
    )
    csv: str | _Table | None = field(default=None, metadata=help("CSV with a row per image; none: the description's"))
    splits: _Table | None = field(default=None, metadata=help("train, val and test; none: the description's"))
    tasks: _Table | None = field(default=None, metadata=help("a table for each task; none: the description's"))
    image_range: tuple[float, float] | None = field(
        default=None, metadata=help("black and white in images that are not of 8 bits; none: the description's")
    )
    check: int | None = field(
        default=4, validator=_not_negative, metadata=help("samples of each split checked before use; none: all")
    )
    cache: bool = field(default=True, metadata=help("keep what was read and resized"))

    @hookimpl
    def name_splits(self) -> tuple[str, ...]:
        return tuple(self._opened().splits)

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        from mtl_data import cached

        data = self._opened()
        dataset = data[split]
        if self.check != 0:
            data.check(data.splits if split == "train" else [split], self.check)
        settings = {"size": self.size, "split": split, "description": repr(data.description)}
        return cached(dataset, data.files(split), settings, self.cache)

    def _opened(self) -> FolderData:
        from mtl_folder.opening import open_folder

        return open_folder(Path(self.root).expanduser(), self.description, self._given(), self.size)

    def _given(self) -> dict[str, Any]:
        """The tables that the experiment has."""
        names = ("images", "csv", "splits", "tasks", "image_range")
        return {name: value for name in names if (value := getattr(self, name)) is not None}
