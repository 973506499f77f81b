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

_GREY = (0.2989, 0.587, 0.114)
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


def _blend(images: Tensor, other: Tensor, change: Tensor) -> Tensor:
    """(1 + change) · images − change · other, kept in 0..1."""
    return ((1 + change) * images - change * other).clamp(0, 1)


def _grey(images: Tensor) -> Tensor:
    """Luminance, (n, 1, H, W)."""
    red, green, blue = images.chunk(3, 1)
    return _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue


def _identity(images: Tensor, strength: Tensor) -> Tensor:
    return images


def _brightness(images: Tensor, change: Tensor) -> Tensor:
    return _blend(images, torch.zeros_like(images), change)


def _color(images: Tensor, change: Tensor) -> Tensor:
    return _blend(images, _grey(images), change)


def _contrast(images: Tensor, change: Tensor) -> Tensor:
    return _blend(images, _grey(images).mean((1, 2, 3), keepdim=True), change)


def _sharpness(images: Tensor, change: Tensor) -> Tensor:
    """Blends with a smoothed image, whose outermost pixels are not smoothed."""
    smooth = images.clone()
    # pooling and not a convolution, which autocast and TF32 would round
    smooth[..., 1:-1, 1:-1] = (9 * F.avg_pool2d(images, 3, 1) + 4 * images[..., 1:-1, 1:-1]) / 13
    return _blend(images, smooth, change)


def _posterize(images: Tensor, step: Tensor) -> Tensor:
    """Rounds each of 256 levels down to a multiple of ``step``."""
    return ((images * 255).round() / step).floor() * step / 255


def _solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Inverts what is at least ``threshold``; the weakest, 1, inverts pure white."""
    return torch.where(images >= threshold, 1 - images, images)


def _autocontrast(images: Tensor, strength: Tensor) -> Tensor:
    """Stretches each channel to 0..1."""
    made: Tensor = V.autocontrast_image(images)
    return made


def _equalize(images: Tensor, strength: Tensor) -> Tensor:
    """Equalizes each channel's histogram of 256 levels."""
    levels: Tensor = V.equalize_image((images * 255).round().to(torch.uint8))
    return levels.to(images.dtype) / 255


def _changes(bins: int) -> Tensor:
    return torch.linspace(0, 0.9, bins)


def _steps(bins: int) -> Tensor:
    """2 to the number of bits that go, 0 to 4 of 8."""
    return 2 ** (4 * torch.arange(bins) / (bins - 1)).round()


def _thresholds(bins: int) -> Tensor:
    return torch.linspace(1, 0, bins)


OPERATIONS: dict[str, Operation] = {
    "identity": Operation(_identity),
    "brightness": Operation(_brightness, _changes, signed=True),
    "color": Operation(_color, _changes, signed=True),
    "contrast": Operation(_contrast, _changes, signed=True),
    "sharpness": Operation(_sharpness, _changes, signed=True),
    "posterize": Operation(_posterize, _steps),
    "solarize": Operation(_solarize, _thresholds),
    "autocontrast": Operation(_autocontrast),
    "equalize": Operation(_equalize),
}
