"""VGG-16: with a linear head for each task of whole images, or as the encoder of dense tasks."""

from __future__ import annotations

from typing import Literal

from attrs import field
from attrs.validators import ge, in_
from torch import nn

from mtl_backbones.options import EncoderOptions, Head, known_head
from mtl_backbones.vgg import SMALLEST, VGG
from mtl_core import MtlError, Tasks, help, hookimpl, plugin


@plugin
class VGG16(EncoderOptions):
    """VGG-16's convolutions as the shared encoder: a linear head for a task per image, a decoder for a dense one.

    Simonyan and Zisserman, ICLR 2015, configuration D; torchvision's layers and names, so that its weights fit.
    With batch norm and without the last pooling it is the network of Multi-CIFAR-100 in Auto-λ and IAL (Tab. VII).
    """

    width: int = field(default=64, validator=ge(1), metadata=help("channels of the first level; the last has 8 ×"))
    norm: Literal["batch", "group", "none"] = field(
        default="batch",
        validator=in_(("batch", "group", "none")),
        metadata=help("normalisation behind each convolution; none: torchvision's vgg16, batch: its vgg16_bn"),
    )
    pool: bool = field(
        default=False,
        metadata=help("average over the image in the encoder: a smaller z where every task has one value per image"),
    )
    head: Head = field(default="deeplab", validator=known_head, metadata=help("each dense task's decoder"))

    @hookimpl
    def build_backbone(self, image_size: tuple[int, int], in_channels: int) -> nn.Module:
        if min(image_size) < SMALLEST:
            found = f"{image_size[0]} × {image_size[1]}"
            raise MtlError(
                f"vgg16: images of {found} pixels vanish in its four poolings; expected at least"
                f" {SMALLEST} × {SMALLEST}: enlarge the data set's images or choose another network"
            )
        levels = 1 if self.pool or self.head == "deeplab" else 4
        network = VGG(in_channels, self.width, self.norm, self.statistics(in_channels), levels, self.pool)
        self.load(nn.ModuleDict({"features": network.features}), "vgg16")
        return network

    @hookimpl
    def build_heads(self, backbone: nn.Module, tasks: Tasks, image_size: tuple[int, int]) -> nn.ModuleDict:
        channels = getattr(backbone, "channels", None)
        if isinstance(channels, int):
            channels = (channels,)
        if not isinstance(channels, tuple):
            raise MtlError(
                f"vgg16: its heads need features with a number of channels, the backbone {type(backbone).__name__} has"
                f" channels {channels}; choose the heads that belong to the backbone under [use]: build_heads"
            )
        if self.pool and (dense := tasks.dense.names):
            raise MtlError(
                f'vgg16: pool = true leaves one pixel of the image, which the dense task "{dense[0]}" cannot be decoded'
                " from; use pool = false"
            )
        return self.make_heads(channels, tasks, image_size)
