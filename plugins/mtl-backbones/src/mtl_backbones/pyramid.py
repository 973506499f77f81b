"""The levels of an encoder of segmentation-models-pytorch, as z.

Shape letters: B samples, C channels, H and W image size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn

from mtl_backbones.standardise import Standardised, Statistics

if TYPE_CHECKING:
    from mtl_backbones.autoencoder import PyramidAutoencoder


class Pyramid(Standardised):
    """An encoder's levels from half the image's size on.

    :param encoder: of segmentation-models-pytorch, depth 5
    :param statistics: of the images that the encoder was pretrained on
    :param another: makes an encoder of the same kind, without pretrained weights, for other channels
    """

    def __init__(self, encoder: nn.Module, statistics: Statistics, another: Callable[[int], nn.Module]) -> None:
        super().__init__(statistics)
        self.encoder = encoder
        self.another = another
        self.channels: tuple[int, ...] = tuple(encoder.out_channels[1:])  # type: ignore[index]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) → five levels of 1/2, 1/4 … of the size; dilated ones stay at 1/8 or 1/16."""
        levels: list[Tensor] = self.encoder(self.standardise(images))
        return tuple(levels[1:])

    def autoencoder(self, in_channels: int, out_channels: int, bottleneck: int | None = None) -> PyramidAutoencoder:
        """A network of this kind with a latent in the middle, for regularizers."""
        from mtl_backbones.autoencoder import PyramidAutoencoder

        return PyramidAutoencoder(self.another(in_channels), out_channels, bottleneck)
