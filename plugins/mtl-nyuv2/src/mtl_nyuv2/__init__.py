"""NYU-v2: 795 training and 654 test images of rooms with 13 or 40 classes, depth and surface normals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attrs import field
from attrs.validators import in_, min_len

from mtl_core import help, hookimpl, plugin
from mtl_data import known_tasks, positive_size

if TYPE_CHECKING:
    from mtl_core import MultiTaskDataset

__all__ = ["NYUv2"]

_TASKS = ("segmentation", "depth", "normals")
ALL_TASKS = (*_TASKS, "edges")


@plugin
class NYUv2:
    """NYU-v2 (Silberman et al., ECCV 2012): semantic segmentation (13 or 40 classes), depth, surface normals.

    Reads the official .mat file, folders of images, the arrays that MTAN and MTPSL publish, and NYUD_MT; which of them
    is found out from the files.
    """

    root: str = field(validator=min_len(1), metadata=help("folder of the data, or the official .mat file"))
    size: tuple[int, int] | None = field(
        default=None, validator=positive_size, metadata=help("(height, width) in pixels; none: the files' own")
    )
    tasks: tuple[str, ...] = field(
        default=_TASKS,
        validator=known_tasks("NYU-v2", ALL_TASKS),
        metadata=help("tasks, in order; also edges, which NYUD_MT has"),
    )
    classes: Literal[13, 40] = field(default=13, validator=in_((13, 40)), metadata=help("classes of segmentation"))
    normals: str | None = field(
        default=None,
        metadata=help("folder with a file of normals for each image; none: the data's own, else derived from depth"),
    )
    cache: bool = field(default=True, metadata=help("keep decoded samples in the cache folder (MTL_CACHE)"))

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        from mtl_nyuv2.dataset import open_dataset
        from mtl_nyuv2.layouts import Wanted

        normals = None if self.normals is None else Path(self.normals).expanduser()
        wanted = Wanted(self.tasks, self.classes, normals, "nyuv2")
        return open_dataset(Path(self.root).expanduser(), split, self.size, wanted, self.cache)
