"""The photometric operations of RandAugment, each on a batch with a magnitude per image.

Shape letters: n images that drew the operation, H and W image size. Images are float in 0..1.
A magnitude is a share 0..1 of the operation's range; torchvision's bin b of 31 is the share b/30.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as V

Operation = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(images (n, 3, H, W), magnitude (n, 1, 1, 1) in 0..1, sign (n, 1, 1, 1) −1 or 1) → images."""

STRONGEST = 0.9
"""Change of a blending factor at magnitude 1, as in torchvision."""
GREY = (0.2989, 0.587, 0.114)


def blend(images: Tensor, other: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    """f · images + (1 − f) · other with f = 1 ± 0.9 · magnitude, kept in 0..1."""
    factor = 1 + sign * STRONGEST * magnitude
    return (factor * images + (1 - factor) * other).clamp(0, 1)


def grey(images: Tensor) -> Tensor:
    """Luminance, (n, 1, H, W)."""
    red, green, blue = images.unbind(1)
    return (GREY[0] * red + GREY[1] * green + GREY[2] * blue).unsqueeze(1)


def identity(images: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    return images


def brightness(images: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    return blend(images, torch.zeros_like(images), magnitude, sign)


def color(images: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    return blend(images, grey(images), magnitude, sign)


def contrast(images: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    return blend(images, grey(images).mean((1, 2, 3), keepdim=True), magnitude, sign)


def sharpness(images: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    """Blends with a smoothed image; the outermost pixels are not smoothed."""
    kernel = torch.ones(3, 1, 3, 3, device=images.device, dtype=images.dtype)
    centre = F.conv2d(images, kernel, groups=3) + 4 * images[..., 1:-1, 1:-1]
    smooth = images.clone()
    smooth[..., 1:-1, 1:-1] = centre / 13
    return blend(images, smooth, magnitude, sign)


def posterize(images: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    """Keeps 8 − round(4 · magnitude) bits."""
    step = 2 ** (magnitude * 4).round()
    return ((images * 255).round() / step).floor() * step / 255


def solarize(images: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    """Inverts what is at least 1 − magnitude."""
    return torch.where(images >= 1 - magnitude, 1 - images, images)


def autocontrast(images: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    return V.autocontrast_image(images)


def equalize(images: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    """Equalizes each channel's histogram of 256 levels."""
    return V.equalize_image((images * 255).round().to(torch.uint8)).to(images.dtype) / 255


OPERATIONS: dict[str, Operation] = {
    f.__name__: f
    for f in (identity, brightness, color, contrast, sharpness, posterize, solarize, autocontrast, equalize)
}
