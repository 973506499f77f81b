"""Taskonomy: 4.5 million views of 537 buildings with dense labels for many tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import field
from attrs.validators import ge, gt, min_len, optional

from mtl_core import DataError, help, hookimpl, nearest, plugin
from mtl_data import known_tasks, positive_size
from mtl_taskonomy.choices import RANGES, SPLITS, Convention, DepthForm, Mask, Subset
from mtl_taskonomy.domains import SEVEN, TASKS

if TYPE_CHECKING:
    from mtl_core import MultiTaskDataset

__all__ = ["Taskonomy"]


def _known_ranges(instance: object, attribute: Any, value: dict[str, float]) -> None:
    unknown = [task for task in value if task not in RANGES]
    if unknown:
        raise ValueError(
            f"no range is used for {unknown[0]!r}{nearest(unknown[0], RANGES)} (only for: {', '.join(RANGES)})"
        )
    wrong = [task for task, largest in value.items() if not 0 < largest <= 1]
    if wrong:
        raise ValueError(f"{wrong[0]}: expected a number above 0 and up to 1, found {value[wrong[0]]}")


@plugin
class Taskonomy:
    """Taskonomy (Zamir et al., CVPR 2018): seven dense tasks of Joint-Task Regularization, and three further domains.

    Reads the tree of one building, of buildings and of omnitools.download; which of them is found out from the folders.
    A label that a view lacks is a missing label.
    """

    root: str = field(validator=min_len(1), metadata=help("folder that holds the buildings, or the domains"))
    subset: Subset = field(default="tiny", metadata=help("the publishers' subset of buildings"))
    split_file: str = field(
        default="",
        metadata=help("their split file, folder of these or archive; tiny needs none; wins over built-in lists"),
    )
    test: Literal["test", "val"] = field(default="test", metadata=help("the buildings that a run is tested on"))
    leave_out: tuple[str, ...] = field(default=(), metadata=help("buildings that are not used"))
    incomplete: bool = field(default=False, metadata=help("do without buildings of the subset that are not there"))
    views_per_building: int | None = field(
        default=None, validator=optional(ge(1)), metadata=help("at most, evenly spaced; none: all")
    )
    size: tuple[int, int] | None = field(
        default=None,
        validator=positive_size,
        metadata=help("(height, width) in pixels; none: the files' own, 512 × 512"),
    )
    tasks: tuple[str, ...] = field(
        default=SEVEN, validator=known_tasks("Taskonomy", TASKS), metadata=help("tasks, in order")
    )
    convention: Convention = field(
        default="taskonomy",
        metadata=help("whose targets of edges, keypoints, reshading and curvature; plain: the files'"),
    )
    ranges: dict[str, float] = field(
        factory=dict,
        validator=_known_ranges,
        metadata=help("task → share of 65535 that becomes 1, in place of 0.00625, 0.08 and 0.005 of taskonomy"),
    )
    blur: float = field(
        default=4.0,
        validator=ge(0),
        metadata=help("of occlusion edges: deviation in pixels at a width of 256; 0: none"),
    )
    depth: DepthForm = field(default="metres", metadata=help("depth in metres, or as a published code trains it"))
    max_depth: float | None = field(
        default=None, validator=optional(gt(0)), metadata=help("metres from which depth is invalid; none: 128")
    )
    mask: Mask = field(
        default="depth", metadata=help("file that says which pixels of labels made from the mesh are valid")
    )
    index: str = field(default="", metadata=help("file that keeps the index; empty: below root, or the user's cache"))
    rebuild: bool = field(default=False, metadata=help("list every folder again, once, although none seems changed"))
    cache: bool = field(default=False, metadata=help("keep decoded samples; tiny at 256 × 256: some 600 GB"))

    @hookimpl
    def name_splits(self) -> tuple[str, ...]:
        from mtl_taskonomy.opening import has_split

        own = self.test == "test" and has_split(self, Path(self.root).expanduser(), "val")
        return ("train", "val", "test") if own else ("train", "test")

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        if split not in SPLITS:
            raise DataError(
                f"taskonomy: there is no split {split!r}{nearest(split, SPLITS)} (there are: {', '.join(SPLITS)})"
            )
        from mtl_taskonomy.opening import open_split

        return open_split(self, Path(self.root).expanduser(), self.test if split == "test" else split)
