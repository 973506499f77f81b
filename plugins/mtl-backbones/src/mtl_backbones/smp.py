"""Any encoder of segmentation-models-pytorch, with DeepLabV3+ heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import segmentation_models_pytorch
import timm
import torch
from attrs import Attribute, field
from attrs.validators import and_, ge, in_, lt
from torch import nn

from mtl_backbones.deeplab import DeepLabHead, Pyramid
from mtl_backbones.heads import PooledHead
from mtl_backbones.weights import load_weights
from mtl_core import MtlError, Task, Tasks, help, hookimpl, nearest, plugin

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of RGB in 0..1."""


def known_encoder(plugin: object, option: Attribute[Any], value: str) -> None:
    names: list[str] = segmentation_models_pytorch.encoders.get_encoder_names()
    name = value
    if value.startswith("tu-"):
        names, name = [f"tu-{model}" for model in timm.list_models()], value.split(".")[0]
    if name not in names:
        raise ValueError(
            f'segmentation-models-pytorch has no encoder "{value}"{nearest(name, names)}'
            ' (examples: "resnet18", "resnet50", "efficientnet-b0"; timm\'s models as "tu-NAME")'
        )


def positive(plugin: object, option: Attribute[Any], value: tuple[int, ...]) -> None:
    if min(value) < 1:
        raise ValueError(f"must all be >= 1, found {list(value)}")


@plugin
class SMP:
    """A shared encoder of segmentation-models-pytorch and a DeepLabV3+ head for each task.

    z is the encoder's pyramid. The networks of the ResNet experiments of JTR (Tab. 15) and IAL; the papers do not say
    which rates, stride and dropout they used, the defaults here are segmentation-models-pytorch's.
    """

    encoder: str = field(default="resnet50", validator=known_encoder, metadata=help("the encoder's name"))
    head: Literal["deeplabv3+"] = field(
        default="deeplabv3+", validator=in_(("deeplabv3+",)), metadata=help("each dense task's decoder")
    )
    weights: str | None = field(
        default=None, metadata=help("local file with a state dict of the encoder; never fetched")
    )
    output_stride: Literal[8, 16, 32] = field(
        default=16,
        validator=in_((8, 16, 32)),
        metadata=help("image size / size of the last level; 8 and 16 dilate the last stages"),
    )
    head_channels: int = field(default=256, validator=ge(1), metadata=help("channels inside a head"))
    atrous_rates: tuple[int, int, int] = field(
        default=(12, 24, 36),
        validator=positive,
        metadata=help("dilations of a head's pooling, in pixels of the last level"),
    )
    dropout: float = field(default=0.5, validator=and_(ge(0), lt(1)), metadata=help("dropout inside a head"))

    @hookimpl
    def build_backbone(self, image_size: tuple[int, int], in_channels: int) -> nn.Module:
        encoder = self.make_encoder(in_channels)
        mean, deviation = (0.0,) * in_channels, (1.0,) * in_channels
        if self.weights:
            load_weights(encoder, Path(self.weights).expanduser(), self.encoder)
            mean, deviation = IMAGENET if in_channels == 3 else (mean, deviation)
        pyramid = Pyramid(encoder, mean, deviation, self.make_encoder)
        try_out(pyramid, self.encoder, in_channels, image_size)
        return pyramid

    def make_encoder(self, in_channels: int) -> nn.Module:
        try:
            encoder: nn.Module = segmentation_models_pytorch.encoders.get_encoder(
                self.encoder, in_channels=in_channels, depth=5, weights=None, output_stride=self.output_stride
            )
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
            raise MtlError(
                f'smp: the encoder "{self.encoder}" cannot be made with output_stride {self.output_stride}:'
                f" {reason(error)}; choose output_stride = 32 or another encoder"
            ) from error
        return encoder

    @hookimpl
    def build_heads(self, backbone: nn.Module, tasks: Tasks, image_size: tuple[int, int]) -> nn.ModuleDict:
        channels = getattr(backbone, "channels", None)
        if not isinstance(channels, tuple) or len(channels) < 2:
            raise MtlError(
                f"smp: its heads need a pyramid, the backbone {type(backbone).__name__} has channels {channels};"
                " choose the heads that belong to the backbone under [use]: build_heads"
            )
        return nn.ModuleDict({task.name: self.make_head(channels, task, image_size) for task in tasks})

    def make_head(self, channels: tuple[int, ...], task: Task, image_size: tuple[int, int]) -> nn.Module:
        if not task.dense:
            return PooledHead(channels[-1], task.channels)
        return DeepLabHead(channels, task.channels, image_size, self.head_channels, self.atrous_rates, self.dropout)


def try_out(pyramid: Pyramid, name: str, in_channels: int, image_size: tuple[int, int]) -> None:
    """Some encoders take only sizes of their own: say so now, not in the middle of the first step."""
    training = pyramid.training
    pyramid.eval()
    try:
        with torch.no_grad():
            pyramid(torch.zeros(1, in_channels, *image_size, device=pyramid.mean.device))
    except (RuntimeError, ValueError, AssertionError) as error:
        height, width = image_size
        raise MtlError(
            f'smp: the encoder "{name}" cannot take images of {height} × {width} pixels: {reason(error)};'
            " resize the data set's images or choose another encoder"
        ) from error
    pyramid.train(training)


def reason(error: Exception) -> str:
    return str(error).strip().rstrip(".!")
