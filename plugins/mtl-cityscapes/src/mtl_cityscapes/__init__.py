"""Cityscapes: 2975 training and 500 validation images of streets with classes, parts and disparity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import field
from attrs.validators import in_, min_len

from mtl_core import help, hookimpl, plugin
from mtl_data import known_tasks, positive_size

if TYPE_CHECKING:
    from mtl_core import MultiTaskDataset

__all__ = ["Cityscapes"]

_TASKS = ("segmentation", "parts", "depth")


def _above_zero(instance: object, attribute: Any, value: float | None) -> None:
    if value is not None and not value > 0:
        raise ValueError(f"expected metres above 0 or none, found {value:g}")


@plugin
class Cityscapes:
    """Cityscapes (Cordts et al., CVPR 2016): semantic segmentation, depth, and parts (Meletis et al., 2020).

    Reads the official tree, MTAN's and AdaShare's trees of arrays and Auto-λ's repacked tree; which of them a folder
    holds is found out from the files. The test split is the official validation split.
    """

    root: str = field(validator=min_len(1), metadata=help("folder that holds leftImg8bit, or train and val"))
    size: tuple[int, int] | None = field(
        default=None, validator=positive_size, metadata=help("(height, width) in pixels; none: the files' own")
    )
    tasks: tuple[str, ...] = field(
        default=("segmentation", "depth"),
        validator=known_tasks("Cityscapes", _TASKS),
        metadata=help("tasks, in order: segmentation, parts, depth"),
    )
    classes: Literal[19, 7] = field(
        default=19, validator=in_((19, 7)), metadata=help("19 classes of the benchmark, or its 7 categories")
    )
    rare: Literal["category", "ignored"] = field(
        default="category",
        validator=in_(("category", "ignored")),
        metadata=help("with 7 classes: what the benchmark does not evaluate counts with its category, or is ignored"),
    )
    depth: Literal["disparity", "metres", "published"] = field(
        default="disparity",
        validator=in_(("disparity", "metres", "published")),
        metadata=help(
            "disparity: pixels of the image as it is used; metres: by each image's camera;"
            " published: raw disparity / 65535, as in MTAN's arrays"
        ),
    )
    max_depth: float | None = field(
        default=80.0,
        validator=_above_zero,
        metadata=help("metres beyond which depth in metres is invalid; none: no limit"),
    )
    zoom: Literal["geometry", "mtan"] = field(
        default="geometry",
        validator=in_(("geometry", "mtan")),
        metadata=help(
            "an enlargement by s multiplies disparity by s (geometry, as in Auto-λ's code)"
            " or divides it (mtan: the code of MTAN, MTPSL, JTR and LibMTL)"
        ),
    )
    cache: bool = field(default=True, metadata=help("keep samples that were read and resized"))

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        from mtl_cityscapes.dataset import CityscapesDataset
        from mtl_cityscapes.layouts import find_files
        from mtl_data import cached

        files = find_files(Path(self.root).expanduser(), split, self.tasks, self.classes, self.depth == "metres")
        made = CityscapesDataset(files, self)
        return cached(made, files.paths(), made.settings(), self.cache)
