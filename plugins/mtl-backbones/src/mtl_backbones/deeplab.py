"""DeepLabV3+ on the pyramid of an encoder.

Shape letters: B samples, C channels, O channels of the task, H and W image size.
Source: Chen et al., Encoder-Decoder with Atrous Separable Convolution, ECCV 2018; layers and initialisation are those
of segmentation-models-pytorch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_backbones.autoencoder import PyramidAutoencoder
from mtl_core import MtlError

FINE = 1
"""The level of 1/4 of the image's size, whose details the head adds."""


class Pyramid(nn.Module):
    """An encoder's levels from half the image's size on.

    :param encoder: of segmentation-models-pytorch, depth 5
    :param mean: of an image's channels in the data that the encoder was pretrained on
    :param deviation: the same
    :param another: makes an encoder of the same kind, without pretrained weights, for other channels
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        mean: tuple[float, ...],
        deviation: tuple[float, ...],
        another: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.encoder, self.another = encoder, another
        self.channels: tuple[int, ...] = tuple(encoder.out_channels[1:])  # type: ignore[index]
        # buffers, so that a checkpoint brings them back where the file of weights is not at hand
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) → five levels of 1/2, 1/4 … of the size; dilated ones stay at 1/8 or 1/16."""
        levels: list[Tensor] = self.encoder((images - self.mean) / self.deviation)
        return tuple(levels[1:])

    def autoencoder(self, in_channels: int, out_channels: int, bottleneck: int | None = None) -> PyramidAutoencoder:
        """A network of this kind with a latent in the middle, for regularizers."""
        return PyramidAutoencoder(self.another(in_channels), out_channels, bottleneck)


class DeepLabHead(nn.Module):
    """Atrous pyramid pooling of the last level, joined with the level of 1/4; (B, O, H, W).

    :param channels: of z's levels
    :param out: O
    :param image_size: (H, W) of the output
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        out: int,
        image_size: tuple[int, int],
        width: int,
        rates: tuple[int, int, int],
        dropout: float,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        # smp counts the image as a level; the output stride only sizes `up`, which forward replaces
        self.decoder = DeepLabV3PlusDecoder(
            (0, *channels), 5, width, rates, 16, aspp_separable=True, aspp_dropout=dropout
        )
        self.out = nn.Conv2d(width, out, 1)
        initialize_decoder(self.decoder)
        initialize_head(self.out)

    def forward(self, z: tuple[Tensor, ...]) -> Tensor:
        if self.training and len(z[-1]) == 1:
            raise MtlError("smp: batch norm behind global pooling needs two images or more per step; raise batch_size")
        fine: Tensor = self.decoder.block1(z[FINE])
        coarse = resized(self.decoder.aspp(z[-1]), (fine.shape[-2], fine.shape[-1]))
        joined = self.decoder.block2(torch.cat((coarse, fine), dim=1))
        return resized(self.out(joined), self.image_size)


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=True)
