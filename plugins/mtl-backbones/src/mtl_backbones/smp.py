"""Any encoder of segmentation-models-pytorch or timm, with a decoder of that library for each dense task."""

from __future__ import annotations

import logging
import warnings
from typing import Any, Literal

import segmentation_models_pytorch
import timm
import torch
from attrs import Attribute, field
from attrs.validators import in_
from torch import nn

from mtl_backbones.options import EncoderOptions
from mtl_backbones.pyramid import Pyramid
from mtl_backbones.standardise import IMAGENET, Statistics
from mtl_core import MtlError, Tasks, help, hookimpl, nearest, plugin

_log = logging.getLogger("mtl")

_TIMM = "tu-"
"""The library's mark of a model of timm."""


def _own_names() -> list[str]:
    names: list[str] = segmentation_models_pytorch.encoders.get_encoder_names()
    return names


def _full_name(name: str) -> str:
    """The library's name of an encoder: a name that only timm has gets the mark of timm's models."""
    if name in _own_names() or name.startswith(_TIMM) or not _is_of_timm(name):
        return name
    return f"{_TIMM}{name}"


def _is_of_timm(name: str) -> bool:
    known: bool = timm.is_model(name.split(".")[0])
    return known


def _known_encoder(plugin: object, option: Attribute[Any], value: str) -> None:
    bare = value.removeprefix(_TIMM)
    if value in _own_names() or _is_of_timm(bare):
        return
    marked = [f"{_TIMM}{model}" for model in timm.list_models()] if value.startswith(_TIMM) else []
    hint = nearest(value, marked or _own_names()) or nearest(bare, timm.list_models())
    raise ValueError(
        f'segmentation-models-pytorch and timm have no encoder "{value}"{hint}'
        ' (examples: "resnet18", "resnet50", "efficientnet-b0"; timm\'s models by their names)'
    )


def _trained_with(name: str) -> Statistics:
    """By what the images were standardised that timm's weights of an encoder were trained on; ImageNet's elsewhere."""
    bare = name.removeprefix(_TIMM).removeprefix("timm-")
    known = timm.get_pretrained_cfg(bare, allow_unregistered=True) if name != bare else None
    return IMAGENET if known is None else (tuple(known.mean), tuple(known.std))


def _warn_of_copies(name: str, weights: str | None) -> None:
    """The library's copies of timm's networks take timm's weights, but compute something else with them."""
    bare = name.removeprefix("timm-")
    if weights is not None and bare != name and _is_of_timm(bare):
        _log.warning(
            "smp: \"%s\" is a copy of timm's network with other padding and another ε in its batch norm: timm's weights"
            ' fit it, but its features are not those that they were trained for; use encoder = "%s"',
            name,
            bare,
        )


@plugin
class SMP(EncoderOptions):
    """A shared encoder of segmentation-models-pytorch or timm and a decoder for each dense task.

    z is the encoder's pyramid. The networks of the ResNet experiments of JTR (Tab. 15, DeepLabV3+) and IAL (a dilated
    ResNet with DeepLab heads, ResNet-50 with FPN); the papers do not say which rates, stride and dropout they used, the
    defaults here are segmentation-models-pytorch's.
    """

    encoder: str = field(default="resnet50", validator=_known_encoder, metadata=help("the encoder's name"))
    output_stride: Literal[8, 16, 32] = field(
        default=16,
        validator=in_((8, 16, 32)),
        metadata=help("image size / size of the last level; 8 and 16 dilate the last stages"),
    )

    @hookimpl
    def build_backbone(self, image_size: tuple[int, int], in_channels: int) -> nn.Module:
        encoder = self._make_encoder(in_channels)
        self.load(encoder, self.encoder)
        _warn_of_copies(self.encoder, self.weights)
        statistics = self.statistics(in_channels, _trained_with(_full_name(self.encoder)))
        pyramid = Pyramid(encoder, statistics, self._make_encoder)
        _try_out(pyramid, self.encoder, in_channels, image_size)
        return pyramid

    def _make_encoder(self, in_channels: int) -> nn.Module:
        try:
            with warnings.catch_warnings():
                # the library deprecates its names "timm-…", which published state dicts go by
                warnings.filterwarnings("ignore", "`timm-` encoders are deprecated", DeprecationWarning)
                encoder: nn.Module = segmentation_models_pytorch.encoders.get_encoder(
                    _full_name(self.encoder),
                    in_channels=in_channels,
                    depth=5,
                    weights=None,
                    output_stride=self.output_stride,
                )
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
            raise MtlError(
                f'smp: the encoder "{self.encoder}" cannot be made with output_stride {self.output_stride}:'
                f" {_reason(error)}; choose output_stride = 32 or another encoder"
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
        return self.make_heads(channels, tasks, image_size)


def _try_out(pyramid: Pyramid, name: str, in_channels: int, image_size: tuple[int, int]) -> None:
    """Some encoders take only sizes of their own: say so now, not in the middle of the first step."""
    training = pyramid.training
    pyramid.eval()
    try:
        with torch.no_grad():
            pyramid(torch.zeros(1, in_channels, *image_size, device=pyramid.mean.device))
    except (RuntimeError, ValueError, AssertionError) as error:
        height, width = image_size
        raise MtlError(
            f'smp: the encoder "{name}" cannot take images of {height} × {width} pixels: {_reason(error)};'
            " resize the data set's images or choose another encoder"
        ) from error
    pyramid.train(training)


def _reason(error: Exception) -> str:
    return str(error).strip().rstrip(".!")
