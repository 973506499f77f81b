"""SegNet for every task, as in the MTAN line of work."""

from __future__ import annotations

from typing import Literal

from attrs import field
from attrs.validators import ge, in_
from torch import nn

import mtl_nn as blocks
from mtl_backbones.heads import PooledHead
from mtl_core import MtlError, Task, Tasks, help, hookimpl, plugin
from mtl_nn import SMALLEST


@plugin
class SegNet:
    """SegNet with max-unpooling; the shared trunk ends at full resolution, each head is two convolutions.

    Badrinarayanan et al., TPAMI 2017; layers as in Liu et al., CVPR 2019 (MTAN), and Li et al., CVPR 2022 (MTPSL),
    whose filters (64, 128, 256, 512, 512) are ``width`` 64. A task per image has global average pooling and a linear
    layer instead; the papers have no such task on SegNet.
    """

    width: int = field(default=64, validator=ge(1), metadata=help("channels of the first level and of z"))
    norm: Literal["batch", "group"] = field(
        default="batch",
        validator=in_(("batch", "group")),
        metadata=help("normalisation; group norm gives the same result on any number of devices"),
    )

    @hookimpl
    def build_backbone(self, image_size: tuple[int, int], in_channels: int) -> nn.Module:
        if min(image_size) < SMALLEST:
            found = f"{image_size[0]} × {image_size[1]}"
            raise MtlError(
                f"segnet: images of {found} pixels vanish in its five poolings; expected at least"
                f" {SMALLEST} × {SMALLEST}: enlarge the data set's images or choose another network"
            )
        return blocks.SegNet(in_channels, self.width, self.norm)

    @hookimpl
    def build_heads(self, backbone: nn.Module, tasks: Tasks) -> nn.ModuleDict:
        return nn.ModuleDict({task.name: head(_channels_of(backbone), task) for task in tasks})


def head(channels: int, task: Task) -> nn.Module:
    return blocks.SegNetHead(channels, task.channels) if task.dense else PooledHead(channels, task.channels)


def _channels_of(backbone: nn.Module) -> int:
    """C of a backbone that gives one tensor at full resolution."""
    channels = getattr(backbone, "channels", None)
    if not isinstance(channels, int):
        raise MtlError(
            f"segnet: its heads need features in one tensor, the backbone {type(backbone).__name__} has channels"
            f" {channels}; choose the heads that belong to the backbone under [use]: build_heads"
        )
    return channels
