"""The convolutions of VGG-16.

Shape letters: B samples, C channels, H and W image size; w is ``width``.
Source: Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015, D.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from mtl_backbones.standardise import Standardised, Statistics
from mtl_nn import normalisation

_Norm = Literal["batch", "group", "none"]

_CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Of the five levels; a pooling stands between two of them."""
SMALLEST = 2 ** (len(_CONVOLUTIONS) - 1)
"""Pixels below which the last pooling leaves nothing."""


class VGG(Standardised):
    """Five levels of (w, 2w, 4w, 8w, 8w) channels; the fifth pooling, before torchvision's classifier, is left out.

    :param width: w, 64 in the paper
    :param statistics: by which images are standardised
    :param levels: how many of the last levels z has; with 1, z is one tensor
    :param pool: z is the mean of the last level over the image, (B, 8w, 1, 1)
    """

    def __init__(
        self, in_channels: int, width: int, norm: _Norm, statistics: Statistics, levels: int = 1, pool: bool = False
    ) -> None:
        super().__init__(statistics)
        self.width = width
        self.norm = "group" if norm == "group" else "batch"
        self.pool = pool
        sizes = (width, 2 * width, 4 * width, 8 * width, 8 * width)
        layers: list[nn.Module] = []
        ends = []
        entry = in_channels
        for number, (channels, count) in enumerate(zip(sizes, _CONVOLUTIONS, strict=True)):
            layers += [nn.MaxPool2d(2)] if number else []
            for _ in range(count):
                layers += _convolution(entry, channels, norm)
                entry = channels
            ends.append(len(layers))
        # torchvision's name and numbers of layers, so that its state dicts fit
        self.features = nn.Sequential(*layers)
        self.features.apply(_initialise)
        self.ends = ends[-levels:]
        self.channels: int | tuple[int, ...] = sizes[-1] if levels == 1 else sizes[-levels:]

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(B, C, H, W) → the last level, of 1/16 of the size, or the last ones, finest first."""
        x = self.standardise(images)
        found = []
        begin = 0
        for end in self.ends:
            x = self.features[begin:end](x)
            found.append(x)
            begin = end
        if self.pool:
            return x.mean((-2, -1), keepdim=True)
        return x if len(found) == 1 else tuple(found)


def _convolution(entry: int, channels: int, norm: _Norm) -> list[nn.Module]:
    """conv3×3 + norm + ReLU, as separate layers."""
    conv = nn.Conv2d(entry, channels, 3, padding=1)
    normalise = [] if norm == "none" else [normalisation(norm, channels)]
    return [conv, *normalise, nn.ReLU(inplace=True)]


def _initialise(module: nn.Module) -> None:
    """torchvision's: Kaiming-normal weights, zero biases; norms begin as the identity."""
    if isinstance(module, nn.Conv2d) and module.bias is not None:
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(module.bias)
