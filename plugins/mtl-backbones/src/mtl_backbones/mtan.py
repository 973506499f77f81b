"""MTAN, the multi-task attention network."""

from __future__ import annotations

from typing import Literal

from attrs import field
from attrs.validators import ge, in_
from torch import nn

from mtl_backbones.attention import AttentionHead, Trunk
from mtl_core import About, MtlError, Tasks, help, hookimpl, plugin
from mtl_nn import SMALLEST


@plugin
class MTAN:
    """MTAN: a shared SegNet, and for each task attention modules that mask its features, block by block.

    Liu et al., CVPR 2019. z is the trunk's features, two tensors of each block; masks and predictions are the heads'.
    The convolutions between two attention modules, which all tasks share, belong to the trunk but lie behind the seam.
    """

    about = About(
        formula="a = sigmoid(h(g([u; f(previous)]))) per block and task; features a ⊙ p; f is shared by all tasks",
        source="Liu, Johns, Davison, End-to-End Multi-Task Learning with Attention, CVPR 2019, Eq. 1 to 3",
        cost="3.0 million parameters per task beside 35.2 million shared ones (width 64); z has 20 tensors",
        departs="heads give raw values; any image size from 32 × 32; tasks per image have a pooled head",
    )

    width: int = field(default=64, validator=ge(1), metadata=help("channels of the first level"))
    norm: Literal["batch", "group"] = field(
        default="batch",
        validator=in_(("batch", "group")),
        metadata=help("normalisation; group norm gives the same result on any number of devices"),
    )

    @hookimpl
    def build_backbone(self, image_size: tuple[int, int], in_channels: int) -> nn.Module:
        refuse_small(image_size, "mtan")
        return Trunk(in_channels, self.width, self.norm)

    @hookimpl
    def build_heads(self, backbone: nn.Module, tasks: Tasks) -> nn.ModuleDict:
        if not isinstance(backbone, Trunk):
            raise MtlError(
                f"mtan: its heads need MTAN's trunk, the backbone is a {type(backbone).__name__};"
                " give both places to one plugin under [use]: build_backbone and build_heads"
            )
        return nn.ModuleDict({task.name: AttentionHead(backbone, task.channels, task.dense) for task in tasks})


def refuse_small(image_size: tuple[int, int], name: str) -> None:
    if min(image_size) < SMALLEST:
        found = f"{image_size[0]} × {image_size[1]}"
        raise MtlError(
            f"{name}: images of {found} pixels vanish in its five poolings; expected at least"
            f" {SMALLEST} × {SMALLEST}: enlarge the data set's images or choose another network"
        )
