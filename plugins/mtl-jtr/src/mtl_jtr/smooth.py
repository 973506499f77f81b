"""A smooth g of convolutions: no max-pooling, no norm. Not in the paper.

Shape letters: B samples, O channels of all tasks together, w channels of the first level, C of the latent, H and W
image size.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mtl_nn import Latent, Pooled

_LEVELS = 3
"""Each halves the size."""


class Smooth(nn.Module):
    """Three levels of convolution, GELU and an average over 2 × 2 pixels, and back with bilinear enlargement.

    The latent comes out of a linear map, so that its entries have either sign.

    :param channels: O
    :param width: w; the levels have w, 2 w and 4 w channels
    :param bottleneck: C; none: 4 · w
    """

    def __init__(self, channels: int, width: int, bottleneck: int | None = None) -> None:
        super().__init__()
        sizes = [width << k for k in range(_LEVELS)]
        latent = bottleneck or sizes[-1]
        entered = [channels, *sizes[:-1]]
        convolutions = [nn.Conv2d(a, b, 3, padding=1) for a, b in zip(entered, sizes, strict=True)]
        self.encoder = nn.ModuleList([*convolutions, nn.Conv2d(sizes[-1], latent, 1)])
        left = [*sizes[-2::-1], width]
        self.decoder = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip([latent, *left[:-1]], left, strict=True)
        )
        self.head = nn.Conv2d(width, channels, 1)

    def encode(self, x: Tensor) -> Latent:
        """(B, O, H, W) → latent (B, C, ⌈H/8⌉, ⌈W/8⌉), and the size before each pooling."""
        *levels, last = self.encoder
        pooled = []
        for convolution in levels:
            pooled.append(Pooled((x.shape[-2], x.shape[-1]), None))
            x = F.avg_pool2d(F.gelu(convolution(x)), 2, ceil_mode=True)
        return Latent(last(x), tuple(pooled))

    def decode(self, latent: Latent) -> Tensor:
        """What :meth:`encode` gave → (B, O, H, W)."""
        x = latent.features
        for convolution, pooled in zip(self.decoder, reversed(latent.pooled), strict=True):
            x = F.interpolate(F.gelu(convolution(x)), pooled.size, mode="bilinear", align_corners=False)
        decoded: Tensor = self.head(x)
        return decoded
