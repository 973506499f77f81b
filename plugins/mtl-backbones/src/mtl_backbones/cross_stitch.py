"""Cross-stitch networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from attrs import field
from attrs.validators import ge, gt, in_, le
from torch import nn

from mtl_backbones.mtan import refuse_small
from mtl_backbones.segnet import head
from mtl_backbones.stitch import OwnLevel, Stitched
from mtl_core import About, MtlError, Tasks, help, hookimpl, plugin


@plugin
class CrossStitch:
    """Cross-stitch network: a SegNet per task, whose features units combine, level by level.

    Misra et al., CVPR 2016, with SegNet as each task's network, as MTAN's tables have it. z has one tensor per task,
    and each head reads its own: at the seam the tasks' gradients never meet, in the parameters they do.
    """

    about = About(
        formula="x̃_i = Σ_j α_ij x_j over the K tasks' features of a level, α learned, per channel",
        source="Misra, Shrivastava, Gupta, Hebert, Cross-Stitch Networks for Multi-Task Learning, CVPR 2016",
        cost="a whole network per task: K × the parameters, time and memory of SegNet",
        departs="SegNet, not AlexNet; K tasks, rows of α sum to 1 at first; networks start from random weights",
    )

    width: int = field(default=64, validator=ge(1), metadata=help("channels of the first level of each network"))
    norm: Literal["batch", "group"] = field(
        default="batch",
        validator=in_(("batch", "group")),
        metadata=help("normalisation; group norm gives the same result on any number of devices"),
    )
    same: float = field(
        default=0.9, validator=[ge(0.0), le(1.0)], metadata=help("weight of a task's own features at first")
    )
    per_channel: bool = field(default=True, metadata=help("a unit has weights for each channel; false: one for all"))
    rate: float = field(
        default=1.0, validator=gt(0.0), metadata=help("learning rate of the units / the experiment's learning rate")
    )

    @hookimpl
    def build_backbone(self, image_size: tuple[int, int], in_channels: int) -> nn.Module:
        refuse_small(image_size, "cross-stitch")
        return Stitched(in_channels, self.width, self.norm, self.same, self.per_channel)

    @hookimpl
    def build_heads(self, backbone: nn.Module, tasks: Tasks) -> nn.ModuleDict:
        if not isinstance(backbone, Stitched):
            raise MtlError(
                f"cross-stitch: its heads need its own networks, the backbone is a {type(backbone).__name__};"
                " give both places to one plugin under [use]: build_backbone and build_heads"
            )
        backbone.grow(len(tasks))
        self.units = backbone.units
        heads = {task.name: OwnLevel(k, head(self.width, task)) for k, task in enumerate(tasks)}
        return nn.ModuleDict(heads)

    @hookimpl
    def parameter_groups(self, learning_rate: float) -> Sequence[Mapping[str, Any]]:
        # weight decay would pull the combination of features to nothing
        return [{"params": list(self.units.parameters()), "lr": self.rate * learning_rate, "weight_decay": 0.0}]
