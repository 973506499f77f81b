"""Rendered rooms: a data set that needs no download, with exact labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from attrs import field, validators

from mtl_core import DataError, help, hookimpl, nearest, plugin
from mtl_data import known_tasks
from mtl_scenes.labels import LABELS

if TYPE_CHECKING:
    from mtl_core import MultiTaskDataset

_SMALLEST = 16


_COUNT = [validators.ge(1), validators.le(10**6)]
_LARGEST = 2**24
"""Pixels of the largest image that is drawn: 4096 × 4096."""


def _usable_size(instance: object, attribute: Any, value: tuple[int, int]) -> None:
    if len(value) != 2 or min(value) < _SMALLEST:
        raise ValueError(f"size must be (height, width), each at least {_SMALLEST} pixels; got {tuple(value)}")
    if value[0] * value[1] > _LARGEST:
        raise ValueError(f"expected at most {_LARGEST} pixels together, found {value[0]} × {value[1]}")


@plugin
class Scenes:
    """Rooms rendered on the fly, with exact labels for seven dense tasks; no download.

    Every image is a random room by ray casting: its surfaces, furniture, lights and camera are drawn from
    (seed, split, index). Classes share shapes, colours and patterns, so that context matters.
    """

    size: tuple[int, int] = field(
        default=(64, 96), validator=_usable_size, metadata=help("height and width of the images, pixels")
    )
    train: int = field(default=256, validator=_COUNT, metadata=help("number of training images"))
    test: int = field(default=64, validator=_COUNT, metadata=help("number of test images"))
    val: int = field(
        default=0,
        validator=[validators.ge(0), _COUNT[1]],
        metadata=help("number of validation images; 0: there is no such split"),
    )
    seed: int = field(default=0, validator=validators.ge(0), metadata=help("seed of the data"))
    tasks: tuple[str, ...] = field(
        default=("segmentation", "depth", "normals"),
        validator=known_tasks("scenes", tuple(LABELS)),
        metadata=help("the tasks, in order; also occlusion_edges, texture_edges, keypoints, reshading"),
    )
    difficulty: Literal["easy", "medium", "hard"] = field(
        default="hard",
        validator=validators.in_(("easy", "medium", "hard")),
        metadata=help("easy: few large objects, colours and light by class; medium: those colours, full rooms; hard"),
    )
    cache: bool = field(default=True, metadata=help("keep rendered images in memory (up to 2 GiB)"))

    @hookimpl
    def name_splits(self) -> tuple[str, ...]:
        return ("train", "val", "test") if self.val else ("train", "test")

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        from mtl_scenes.dataset import SceneDataset

        lengths = {"train": self.train, "test": self.test, "val": self.val}
        if not lengths.get(split):
            there = self.name_splits()
            raise DataError(
                f"scenes: there is no split {split!r}{nearest(split, there)} (there are: {', '.join(there)})"
                + ("; set plugins.scenes.val to the number of its images" if split == "val" else "")
            )
        return SceneDataset(split, self.size, lengths[split], self.seed, self.tasks, self.cache, self.difficulty)
