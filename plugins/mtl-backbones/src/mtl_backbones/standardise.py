"""Images standardised by the statistics of the data that an encoder was pretrained on.

Shape letters: B samples, C channels, H and W image size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation of each channel of images in 0..1."""

IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Standardised(nn.Module):
    """A backbone that begins with (image − mean) / deviation."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        mean, deviation = statistics
        # buffers, so that a checkpoint brings them back where the file of weights is not at hand
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(1, -1, 1, 1))

    def standardise(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in 0..1 → the same shape."""
        return (images - self.mean) / self.deviation


def unchanged(channels: int) -> Statistics:
    """Statistics that leave images of C channels as they are."""
    return (0.0,) * channels, (1.0,) * channels
