"""Decoders of dense tasks on the levels of an encoder.

Layers and initialisation are those of segmentation-models-pytorch. The library enlarges by fixed factors, which only
some image sizes allow; here every enlargement goes to the size that is wanted. Where the library's works, the results
are equal.
Shape letters: B samples, C channels, O channels of the task, H and W image size, h and w of a level.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3Decoder, DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_core import MtlError

_Size = tuple[int, int]
_Levels = tuple[Tensor, ...]

_FINE = 1
"""The level of 1/4 of the image's size, whose details DeepLabV3+ adds."""


class Decoder(nn.Module):
    """What all heads share: the layers of a decoder, a last convolution to O channels, the way to the image's size.

    :param decoder: the library's layers
    :param width: C of the features that the decoder gives
    :param out: O
    :param image_size: (H, W) of the output
    :param kernel: of the last convolution
    """

    def __init__(self, decoder: nn.Module, width: int, out: int, image_size: _Size, kernel: int = 1) -> None:
        super().__init__()
        self.image_size = image_size
        self.decoder: Any = decoder
        self.out = nn.Conv2d(width, out, kernel, padding=kernel // 2)
        initialize_decoder(self.decoder)
        initialize_head(self.out)

    def predict(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → (B, O, H, W)."""
        return _resized(self.out(x), self.image_size)


class DeepLabHead(Decoder):
    """DeepLabV3+ (Chen et al., ECCV 2018): atrous pooling of the last level, joined with the level of 1/4.

    :param channels: of z's levels
    :param width: channels inside
    :param rates: dilations of the pooling, in pixels of the last level
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        out: int,
        image_size: _Size,
        width: int,
        rates: tuple[int, int, int],
        dropout: float,
    ) -> None:
        # smp counts the image as a level; the output stride only sizes `up`, which forward replaces
        decoder = DeepLabV3PlusDecoder((0, *channels), 5, width, rates, 16, aspp_separable=True, aspp_dropout=dropout)
        super().__init__(decoder, width, out, image_size)

    def forward(self, z: _Levels) -> Tensor:
        _refuse_one_image(self.training, z[-1])
        fine: Tensor = self.decoder.block1(z[_FINE])
        coarse = _resized(self.decoder.aspp(z[-1]), _size_of(fine))
        return self.predict(self.decoder.block2(torch.cat((coarse, fine), dim=1)))


class AtrousHead(Decoder):
    """DeepLabV3 (Chen et al., arXiv:1706.05587): atrous pooling of the last level alone, a 3 × 3 convolution.

    With a dilated ResNet this is the "DeepLab head" of IAL, as in the code of Auto-λ (Liu et al., TMLR 2022), which has
    no dropout. Parameters as in :class:`DeepLabHead`; z may be one tensor.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        out: int,
        image_size: _Size,
        width: int,
        rates: tuple[int, int, int],
        dropout: float,
    ) -> None:
        decoder = DeepLabV3Decoder(channels[-1], width, rates, aspp_separable=False, aspp_dropout=dropout)
        super().__init__(decoder, width, out, image_size)

    def forward(self, z: Tensor | _Levels) -> Tensor:
        last = z if isinstance(z, Tensor) else z[-1]
        _refuse_one_image(self.training, last)
        return self.predict(self.decoder([last]))


class FPNHead(Decoder):
    """A feature pyramid (Lin et al., CVPR 2017) with the segmentation branch of Kirillov et al., CVPR 2019.

    The last four levels meet from coarse to fine; each goes through convolutions to the size of the finest of them, and
    their sum is the prediction.

    :param channels: of z's levels, four or more
    :param width: channels of the pyramid; the segmentation branch has half of them
    """

    def __init__(self, channels: tuple[int, ...], out: int, image_size: _Size, width: int, dropout: float) -> None:
        decoder = FPNDecoder(list(channels), len(channels), width, width // 2, dropout)
        super().__init__(decoder, width // 2, out, image_size)

    def forward(self, z: _Levels) -> Tensor:
        pyramid = self._pyramid(z[-4:])
        sizes = [_size_of(level) for level in pyramid]
        parts = []
        for position, (level, branch) in enumerate(zip(pyramid, self.decoder.seg_blocks, strict=True)):
            parts.append(_enlarged(level, branch.block, sizes[position + 1 :]))
        return self.predict(self.decoder.dropout(self.decoder.merge(parts)))

    def _pyramid(self, levels: _Levels) -> list[Tensor]:
        """The levels joined from the coarsest on, coarsest first."""
        joined: list[Tensor] = [self.decoder.p5(levels[-1])]
        blocks = (self.decoder.p4, self.decoder.p3, self.decoder.p2)
        for block, level in zip(blocks, reversed(levels[:-1]), strict=True):
            lateral = block.skip_conv(level)
            joined.append(F.interpolate(joined[-1], _size_of(lateral), mode="nearest") + lateral)
        return joined


def _enlarged(x: Tensor, convolutions: Iterable[Any], sizes: list[_Size]) -> Tensor:
    """One level through its convolutions, enlarged after each to the next of the sizes."""
    for number, convolution in enumerate(convolutions):
        x = convolution.block(x)
        if number < len(sizes):
            x = _resized(x, sizes[number])
    return x


class UNetHead(Decoder):
    """U-Net (Ronneberger et al., MICCAI 2015): from the last level up, joined with every level on the way.

    :param channels: of z's levels
    :param width: channels of the first block; each further one has half of those before
    """

    def __init__(self, channels: tuple[int, ...], out: int, image_size: _Size, width: int) -> None:
        widths = [max(1, width // 2**number) for number in range(len(channels))]
        entries = [channels[-1], *widths[:-1]]
        skips = [*reversed(channels[:-1]), 0]
        blocks = nn.ModuleList(map(UnetDecoderBlock, entries, skips, widths))
        super().__init__(blocks, widths[-1], out, image_size, kernel=3)

    def forward(self, z: _Levels) -> Tensor:
        x = z[-1]
        above = list(reversed(z[:-1]))
        for block, level in zip(self.decoder, above, strict=False):
            x = block(x, *_size_of(level), level)
        return self.predict(self.decoder[-1](x, *self.image_size))


def _refuse_one_image(training: bool, last: Tensor) -> None:
    if training and len(last) == 1:
        raise MtlError(
            "DeepLab heads have batch norm behind global pooling, which needs two images or more per step;"
            " raise batch_size"
        )


def _size_of(x: Tensor) -> _Size:
    return x.shape[-2], x.shape[-1]


def _resized(x: Tensor, size: _Size) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=True)
