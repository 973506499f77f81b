"""Images and labels of any size brought to one size.

Shape letters: C channels, H and W image size.
"""

from __future__ import annotations

from typing import Literal

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_data import resize_image, resize_nearest, resize_normals

Size = tuple[int, int]
Resize = Literal["squeeze", "pad"]

_MEAN_COLOUR = (124, 116, 104)
"""ImageNet's: nearly zero once an image is normalised, which is what ATRC and InvPT pad with."""


@attrs.frozen
class Placement:
    """Where an image lies in the output.

    :param inner: its size there (height, width)
    :param outer: the output's size
    """

    inner: Size
    outer: Size

    @property
    def margins(self) -> tuple[int, int, int, int]:
        """Left, right, top and bottom: the image is in the middle, an odd pixel goes right and down."""
        down = self.outer[0] - self.inner[0]
        across = self.outer[1] - self.inner[1]
        return across // 2, across - across // 2, down // 2, down - down // 2

    def image(self, values: Tensor) -> Tensor:
        """uint8 (3, H, W)."""
        resized = resize_image(values, self.inner)
        if self.inner == self.outer:
            return resized
        left, _, top, _ = self.margins
        canvas = torch.tensor(_MEAN_COLOUR, dtype=torch.uint8).view(3, 1, 1).repeat(1, *self.outer)
        canvas[:, top : top + self.inner[0], left : left + self.inner[1]] = resized
        return canvas

    def classes(self, values: Tensor) -> Tensor:
        """long (H, W), −1 in the margins."""
        return F.pad(resize_nearest(values, self.inner), self.margins, value=-1)

    def normals(self, vectors: Tensor) -> Tensor:
        """(3, H, W), zero in the margins."""
        return F.pad(resize_normals(vectors, self.inner), self.margins)

    def edges(self, values: Tensor) -> Tensor:
        """(1, H, W), NaN in the margins."""
        return F.pad(resize_nearest(values, self.inner), self.margins, value=torch.nan)


def place(own: Size, size: Size, resize: Resize) -> Placement:
    """How an image comes to the output's size.

    :param own: the image's size
    :param resize: ``"squeeze"`` changes its proportions; ``"pad"`` keeps them, shrinks it where it does not fit, never
        enlarges it
    """
    if resize == "squeeze":
        return Placement(size, size)
    scale = min(1.0, size[0] / own[0], size[1] / own[1])
    inner = (max(round(own[0] * scale), 1), max(round(own[1] * scale), 1))
    return Placement(inner, size)
