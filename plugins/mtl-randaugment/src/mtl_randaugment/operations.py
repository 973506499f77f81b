"""The photometric operations of RandAugment, each on a batch, with a strength per image.

Shape letters: n images that drew the operation, H and W image size. Images are float in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as V

GREY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in a pixel's luminance."""


@attrs.frozen
class Operation:
    """A change of photometry, and how much of it each magnitude means.

    :param apply: (images (n, 3, H, W), strength (n, 1, 1, 1)) → images
    :param table: number of bins → the strength of each, as in torchvision's RandAugment
    :param signed: whether a strength is as likely negative
    """

    apply: Callable[[Tensor, Tensor], Tensor]
    table: Callable[[int], Tensor] = torch.zeros
    signed: bool = False


def blend(images: Tensor, other: Tensor, change: Tensor) -> Tensor:
    """(1 + change) · images − change · other, kept in 0..1."""
    return ((1 + change) * images - change * other).clamp(0, 1)


def grey(images: Tensor) -> Tensor:
    """Luminance, (n, 1, H, W)."""
    red, green, blue = images.chunk(3, 1)
    return GREY[0] * red + GREY[1] * green + GREY[2] * blue


def identity(images: Tensor, strength: Tensor) -> Tensor:
    return images


def brightness(images: Tensor, change: Tensor) -> Tensor:
    return blend(images, torch.zeros_like(images), change)


def color(images: Tensor, change: Tensor) -> Tensor:
    return blend(images, grey(images), change)


def contrast(images: Tensor, change: Tensor) -> Tensor:
    return blend(images, grey(images).mean((1, 2, 3), keepdim=True), change)


def sharpness(images: Tensor, change: Tensor) -> Tensor:
    """Blends with a smoothed image, whose outermost pixels are not smoothed."""
    smooth = images.clone()
    # pooling and not a convolution, which autocast and TF32 would round
    smooth[..., 1:-1, 1:-1] = (9 * F.avg_pool2d(images, 3, 1) + 4 * images[..., 1:-1, 1:-1]) / 13
    return blend(images, smooth, change)


def posterize(images: Tensor, step: Tensor) -> Tensor:
    """Rounds each of 256 levels down to a multiple of ``step``."""
    return ((images * 255).round() / step).floor() * step / 255


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Inverts what is at least ``threshold``; the weakest, 1, inverts pure white."""
    return torch.where(images >= threshold, 1 - images, images)


def autocontrast(images: Tensor, strength: Tensor) -> Tensor:
    """Stretches each channel to 0..1."""
    made: Tensor = V.autocontrast_image(images)
    return made


def equalize(images: Tensor, strength: Tensor) -> Tensor:
    """Equalizes each channel's histogram of 256 levels."""
    levels: Tensor = V.equalize_image((images * 255).round().to(torch.uint8))
    return levels.to(images.dtype) / 255


def changes(bins: int) -> Tensor:
    return torch.linspace(0, 0.9, bins)


def steps(bins: int) -> Tensor:
    """2 to the number of bits that go, 0 to 4 of 8."""
    return 2 ** (4 * torch.arange(bins) / (bins - 1)).round()


def thresholds(bins: int) -> Tensor:
    return torch.linspace(1, 0, bins)


OPERATIONS: dict[str, Operation] = {
    "identity": Operation(identity),
    "brightness": Operation(brightness, changes, signed=True),
    "color": Operation(color, changes, signed=True),
    "contrast": Operation(contrast, changes, signed=True),
    "sharpness": Operation(sharpness, changes, signed=True),
    "posterize": Operation(posterize, steps),
    "solarize": Operation(solarize, thresholds),
    "autocontrast": Operation(autocontrast),
    "equalize": Operation(equalize),
}
