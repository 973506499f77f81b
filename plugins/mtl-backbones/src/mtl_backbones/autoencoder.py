"""An autoencoder on an encoder of segmentation-models-pytorch, for regularizers that need one of the backbone's kind.

Shape letters: B samples, C and O channels in and out, H and W image size, h and w that of the encoder's last level.
"""

from __future__ import annotations

from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock
from torch import Tensor, nn

from mtl_nn import Latent, Pooled

_WIDTHS = (256, 128, 64, 32, 16)
"""Channels of the decoder's blocks, coarsest first: those of the library's U-Net."""


class PyramidAutoencoder(nn.Module):
    """(B, C, H, W) → (B, O, H, W); only the last level goes to the decoder, which is U-Net's without its connections.

    :param encoder: of segmentation-models-pytorch, depth 5, with C channels in
    :param out_channels: O
    :param bottleneck: channels of the latent; those of the last level if None
    """

    def __init__(self, encoder: nn.Module, out_channels: int, bottleneck: int | None = None) -> None:
        super().__init__()
        last: int = encoder.out_channels[-1]  # type: ignore[index, assignment]
        self.channels = bottleneck or last
        self.encoder = encoder
        self.narrow = nn.Conv2d(last, bottleneck, 1) if bottleneck else nn.Identity()
        self.decoder = nn.ModuleList(
            UnetDecoderBlock(entry, 0, width) for entry, width in zip((self.channels, *_WIDTHS), _WIDTHS, strict=False)
        )
        self.head = nn.Conv2d(_WIDTHS[-1], out_channels, 3, padding=1)
        initialize_decoder(self.decoder)
        initialize_head(self.head)

    def encode(self, x: Tensor) -> Latent:
        """(B, C, H, W) → latent (B, channels, h, w) and the sizes of the levels above it."""
        *above, last = self.encoder(x)
        sizes = [(level.shape[-2], level.shape[-1]) for level in above]
        return Latent(self.narrow(last), tuple(Pooled(size, None) for size in sizes))

    def decode(self, latent: Latent) -> Tensor:
        """What :meth:`encode` gave → (B, O, H, W)."""
        x = latent.features
        for block, pooled in zip(self.decoder, reversed(latent.pooled), strict=True):
            x = block(x, *pooled.size)
        decoded: Tensor = self.head(x)
        return decoded

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))
