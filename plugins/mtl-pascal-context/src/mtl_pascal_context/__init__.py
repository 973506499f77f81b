"""PASCAL-Context with the five tasks of the multi-task line of work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from attrs import field
from attrs.validators import gt, in_, lt, min_len

from mtl_core import help, hookimpl, plugin
from mtl_data import known_tasks, positive_size

if TYPE_CHECKING:
    from mtl_core import MultiTaskDataset, Tasks

__all__ = ["PascalContext"]

TASKS = ("segmentation", "parts", "normals", "saliency", "edges")
_AXES = ("x", "y", "z", "-x", "-y", "-z")

_PUBLISHED_WEIGHTS = {"segmentation": 1.0, "parts": 2.0, "saliency": 5.0, "edges": 50.0, "normals": 10.0}
"""Factors of the losses (Maninis et al., CVPR 2019; MTI-Net, ATRC and their successors)."""

_Resize = Literal["squeeze", "pad"]
_Weights = Literal["published", "none"]
_Criterion = Literal["l1", "cosine"]
_EdgeMetric = Literal["fast", "dilated", "exact"]


def _three_axes(instance: object, attribute: Any, value: tuple[str, str, str]) -> None:
    if any(axis not in _AXES for axis in value) or len({axis[-1] for axis in value}) < len(value):
        raise ValueError(f'expected x, y and z in some order, each with or without "-", found {list(value)}')


def _with_dilation(instance: PascalContext, attribute: Any, value: bool) -> None:
    if instance.edge_metric == "dilated" and not value:
        raise ValueError('edge_metric = "dilated" is for thin lines: leave edge_suppression true, or take "fast"')


@plugin
class PascalContext:
    """PASCAL-Context (Mottaghi et al., CVPR 2014) with five tasks: 21 classes, 7 human parts, normals, saliency, edges.

    Reads the archives of ASTMT and MTI-Net (PASCAL_MT) and of ATRC and InvPT (PASCALContext), as they are unpacked.
    """

    root: str = field(validator=min_len(1), metadata=help("folder that the archive was unpacked to"))
    size: tuple[int, int] = field(
        default=(512, 512), validator=positive_size, metadata=help("(height, width) of every image, in pixels")
    )
    resize: _Resize = field(
        default="squeeze",
        validator=in_(get_args(_Resize)),
        metadata=help('"squeeze" to the size, as MTI-Net, or "pad" to it, as ATRC and InvPT do in tests'),
    )
    tasks: tuple[str, ...] = field(
        default=TASKS, validator=known_tasks("PASCAL-Context", TASKS), metadata=help("tasks, in order")
    )
    loss_weights: _Weights = field(
        default="published",
        validator=in_(get_args(_Weights)),
        metadata=help("factors of the losses: segmentation 1, parts 2, saliency 5, edges 50, normals 10; or none"),
    )
    normals_loss: _Criterion = field(
        default="l1", validator=in_(get_args(_Criterion)), metadata=help("L1 on unit vectors, or 1 − cos")
    )
    normals_axes: tuple[str, str, str] = field(
        default=("x", "y", "-z"),
        validator=_three_axes,
        metadata=help("for x right, y down, z forward the published component; x, y, z keeps the published encoding"),
    )
    edge_metric: _EdgeMetric = field(
        default="fast",
        validator=in_(get_args(_EdgeMetric)),
        metadata=help("odsF: pixels matched at 19 thresholds, pairs estimated by dilation, or matched at 99"),
    )
    edge_suppression: bool = field(
        default=True,
        validator=_with_dilation,
        metadata=help("odsF: suppress non-maxima first, as ATRC and InvPT; false as MTI-Net"),
    )
    edge_tolerance: float = field(
        default=0.0075, validator=[gt(0.0), lt(1.0)], metadata=help("largest distance of a pair, share of the diagonal")
    )
    cache: bool = field(default=True, metadata=help("keep decoded samples"))

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        from mtl_data import cached
        from mtl_pascal_context.dataset import Form, PascalContextDataset

        form = Form(size=self.size, resize=self.resize, axes=self.normals_axes, benchmark=split == "test")
        dataset = PascalContextDataset(Path(self.root).expanduser(), split, self.chosen_tasks(), form)
        return cached(dataset, dataset.paths, self._decides(split), keep=self.cache)

    def chosen_tasks(self) -> Tasks:
        """The tasks in their order, with the losses and metrics that the options ask for."""
        from mtl_core import Tasks
        from mtl_pascal_context.classes import CLASSES, PARTS
        from mtl_pascal_context.tasks import Boundaries, Saliency, WeightedNormals, WeightedSegmentation

        weight = _PUBLISHED_WEIGHTS if self.loss_weights == "published" else dict.fromkeys(TASKS, 1.0)
        every = [
            WeightedSegmentation(
                name="segmentation", channels=len(CLASSES), classes=CLASSES, weight=weight["segmentation"]
            ),
            WeightedSegmentation(name="parts", channels=len(PARTS), classes=PARTS, weight=weight["parts"]),
            WeightedNormals(name="normals", criterion=self.normals_loss, weight=weight["normals"]),
            Saliency(name="saliency", weight=weight["saliency"]),
            Boundaries(
                name="edges",
                weight=weight["edges"],
                tolerance=self.edge_tolerance,
                form=self.edge_metric,
                suppression=self.edge_suppression,
            ),
        ]
        return Tasks(every).select(self.tasks)

    def _decides(self, split: str) -> dict[str, object]:
        """What decides what a sample is, beside its files."""
        return {
            "split": split,
            "size": list(self.size),
            "resize": self.resize,
            "tasks": list(self.tasks),
            "normals_axes": list(self.normals_axes),
        }
