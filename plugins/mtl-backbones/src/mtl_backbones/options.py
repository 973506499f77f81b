"""Options of every network with a pretrained encoder: its weights, and the decoder of each dense task."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import attrs
from attrs import field
from attrs.validators import and_, ge, in_, lt, optional
from torch import nn

from mtl_backbones.heads import PooledHead
from mtl_backbones.standardise import IMAGENET, Statistics, unchanged
from mtl_core import Task, Tasks, help

Head = Literal["deeplabv3+", "deeplab", "fpn", "unet"]
_HEADS = ("deeplabv3+", "deeplab", "fpn", "unet")
_PER_FPN_CHANNEL = 64
"""Head channels that an FPN needs for each 32 groups of its group norm, which sees half of them."""


def _positive(plugin: object, option: attrs.Attribute[Any], value: tuple[float, ...] | None) -> None:
    if value is not None and min(value) <= 0:
        raise ValueError(f"'{option.name}' must all be > 0, found {list(value)}")


def _enough_for_groups(plugin: Any, option: attrs.Attribute[Any], value: str) -> None:
    width: int = plugin.head_channels
    if value == "fpn" and width % _PER_FPN_CHANNEL:
        raise ValueError(f'"fpn" has group norm of 32 groups: head_channels must be a multiple of 64, found {width}')


def known_head(plugin: Any, option: attrs.Attribute[Any], value: str) -> None:
    in_(_HEADS)(plugin, option, value)
    _enough_for_groups(plugin, option, value)


@attrs.define(kw_only=True, eq=False, slots=False)
class EncoderOptions:
    """What a plugin with a pretrained encoder and decoders of segmentation-models-pytorch can be given."""

    head_channels: int = field(default=256, validator=ge(1), metadata=help("channels inside a head"))
    head: Head = field(default="deeplabv3+", validator=known_head, metadata=help("each dense task's decoder"))
    atrous_rates: tuple[int, int, int] = field(
        default=(12, 24, 36),
        validator=_positive,
        metadata=help("dilations of a DeepLab head's pooling, in pixels of the last level"),
    )
    dropout: float | None = field(
        default=None,
        validator=optional(and_(ge(0), lt(1))),
        metadata=help("dropout inside a head; none: the library's, 0.5 for DeepLab and 0.2 for FPN"),
    )
    weights: str | None = field(
        default=None, metadata=help("local file with a state dict of the encoder; never fetched")
    )
    partial_weights: bool = field(
        default=False, metadata=help("accept a file of weights that fits a part of the encoder only")
    )
    mean: tuple[float, float, float] | None = field(
        default=None, metadata=help("mean of RGB in 0..1, taken off images; none: the weights', or 0 without weights")
    )
    deviation: tuple[float, float, float] | None = field(
        default=None,
        validator=_positive,
        metadata=help("deviation of RGB, by which images are divided; none: the weights', or 1 without weights"),
    )

    def load(self, encoder: nn.Module, name: str) -> None:
        """Fill an encoder from the file of weights, if there is one."""
        if self.weights is not None:
            from mtl_backbones.weights import load_weights

            load_weights(encoder, Path(self.weights).expanduser(), name, self.partial_weights)

    def statistics(self, channels: int, pretrained: Statistics = IMAGENET) -> Statistics:
        """By what images are standardised.

        :param channels: of an image
        :param pretrained: those of the data that the weights were trained on
        """
        fits = self.weights is not None and len(pretrained[0]) == channels
        mean, deviation = pretrained if fits else unchanged(channels)
        return self.mean or mean, self.deviation or deviation

    def make_heads(self, channels: tuple[int, ...], tasks: Tasks, image_size: tuple[int, int]) -> nn.ModuleDict:
        """A head for each task.

        :param channels: of the levels of z, finest first
        """
        return nn.ModuleDict({task.name: self._make_head(channels, task, image_size) for task in tasks})

    def _make_head(self, channels: tuple[int, ...], task: Task, image_size: tuple[int, int]) -> nn.Module:
        if not task.dense:
            return PooledHead(channels[-1], task.channels)
        from mtl_backbones import decoders

        if self.head == "unet":
            return decoders.UNetHead(channels, task.channels, image_size, self.head_channels)
        if self.head == "fpn":
            return decoders.FPNHead(channels, task.channels, image_size, self.head_channels, self._dropout_or(0.2))
        make = decoders.DeepLabHead if self.head == "deeplabv3+" else decoders.AtrousHead
        return make(channels, task.channels, image_size, self.head_channels, self.atrous_rates, self._dropout_or(0.5))

    def _dropout_or(self, default: float) -> float:
        return default if self.dropout is None else self.dropout
