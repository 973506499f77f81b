"""NYU-v2: 795 training and 654 test images of rooms with 13 classes, depth and surface normals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field
from attrs.validators import min_len

from mtl_core import help, hookimpl, nearest, plugin

if TYPE_CHECKING:
    from mtl_core import MultiTaskDataset

__all__ = ["NYUv2"]

TASKS = ("segmentation", "depth", "normals")


def known_tasks(instance: object, attribute: Any, value: tuple[str, ...]) -> None:
    unknown = [task for task in value if task not in TASKS]
    if unknown:
        raise ValueError(f"NYU-v2 has no task {unknown[0]!r}{nearest(unknown[0], TASKS)} (it has: {', '.join(TASKS)})")
    if not value or len(set(value)) < len(value):
        raise ValueError(f"expected at least one task and none twice, found {list(value)}")


def positive_size(instance: object, attribute: Any, value: tuple[int, int] | None) -> None:
    if value is not None and min(value) < 1:
        raise ValueError(f"expected [height, width] in pixels, found {list(value)}")


@plugin
class NYUv2:
    """NYU-v2 (Silberman et al., ECCV 2012): semantic segmentation (13 classes), depth, surface normals.

    Reads folders of images and the arrays that MTAN and MTPSL publish; which of the two is found out from the files.
    """

    root: str = field(validator=min_len(1), metadata=help("folder that holds train and test (or val)"))
    size: tuple[int, int] | None = field(
        default=None, validator=positive_size, metadata=help("(height, width) in pixels; none: the files' own")
    )
    tasks: tuple[str, ...] = field(default=TASKS, validator=known_tasks, metadata=help("tasks, in order"))
    cache: bool = field(default=True, metadata=help("keep in memory what was read, up to 2 GiB (795 at 96 × 128: 0.2)"))

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        from mtl_nyuv2.dataset import NYUv2Dataset

        return NYUv2Dataset(Path(self.root).expanduser(), split, self.size, self.tasks, self.cache)
