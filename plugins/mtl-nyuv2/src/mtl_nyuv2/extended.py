"""Further images of NYU-v2 that carry some of the labels, beside the multi-task data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from attrs import field
from attrs.validators import ge, in_, min_len

from mtl_core import ExtraData, help, hookimpl, plugin
from mtl_data import known_tasks, positive_size
from mtl_nyuv2 import ALL_TASKS


@plugin
class DepthExtended:
    """Depth-extended NYU-v2: a fixed number of images with depth alone in every batch.

    Nishi et al., CVPR 2024, Sec. 4.3. The paper adds the 47,584 frames of the raw data, 4 to each batch of 4. Any
    folder in one of the forms that ``nyuv2`` reads will do, FastDepth's .h5 files among them; folders of labels that
    are not asked for need not exist.
    """

    root: str = field(validator=min_len(1), metadata=help("folder that holds train"))
    per_batch: int = field(default=4, validator=ge(1), metadata=help("its images in every batch, on every device"))
    size: tuple[int, int] | None = field(
        default=None,
        validator=positive_size,
        metadata=help("(height, width) in pixels, that of nyuv2; none: the files' own"),
    )
    tasks: tuple[str, ...] = field(
        default=("depth",), validator=known_tasks("NYU-v2", ALL_TASKS), metadata=help("labels that are used")
    )
    classes: Literal[13, 40] = field(default=13, validator=in_((13, 40)), metadata=help("classes of segmentation"))
    cache: bool = field(default=True, metadata=help("keep decoded samples in the cache folder (MTL_CACHE)"))

    @hookimpl
    def build_extra_datasets(self) -> Sequence[ExtraData]:
        from mtl_nyuv2.dataset import open_dataset
        from mtl_nyuv2.layouts import Wanted

        wanted = Wanted(self.tasks, self.classes, None, "depth-extended")
        dataset = open_dataset(Path(self.root).expanduser(), "train", self.size, wanted, self.cache)
        return [ExtraData(dataset, self.per_batch)]
