"""A smooth g: averages over blocks of pixels, and linear maps of their channels. Not in the paper.

SegNet's max-poolings and batch norm make the distance's gradient change from pixel to pixel; here all pixels of a block
have the same one.
Shape letters: B samples, O channels of all tasks together, C channels of the latent, H and W image size.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mtl_nn import Latent, Pooled

_BLOCK = 8
"""Pixels on a side of a block."""
_CHANNELS = 32
"""Of the latent, where the option ``bottleneck`` names none."""


class Averages(nn.Module):
    """Averages over 8 × 8 blocks → a linear map to the latent → a linear map back, enlarged bilinearly.

    :param channels: O
    :param bottleneck: C
    """

    def __init__(self, channels: int, bottleneck: int | None = None) -> None:
        super().__init__()
        size = bottleneck or _CHANNELS
        self.encoder = nn.Conv2d(channels, size, 1)
        self.decoder = nn.Conv2d(size, channels, 1)
        self.head = nn.Identity()

    def encode(self, x: Tensor) -> Latent:
        """(B, O, H, W) → latent (B, C, ⌈H/8⌉, ⌈W/8⌉); blocks at the border average the pixels that they have."""
        blocks = F.avg_pool2d(x, _BLOCK, ceil_mode=True)
        return Latent(self.encoder(blocks), (Pooled((x.shape[-2], x.shape[-1]), None),))

    def decode(self, latent: Latent) -> Tensor:
        """What :meth:`encode` gave → (B, O, H, W)."""
        (pooled,) = latent.pooled
        blocks: Tensor = self.decoder(latent.features)
        return F.interpolate(blocks, pooled.size, mode="bilinear", align_corners=False)
