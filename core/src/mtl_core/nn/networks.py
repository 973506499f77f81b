"""Networks that regularizers ask for: of the backbone's kind and width, with other channels.

Shape letters: B samples, C and O channels in and out, H and W image size.
"""

from __future__ import annotations

from torch import Tensor, nn

from mtl_core.nn.segnet import Decoder, Encoder, Latent, Norm, SegNetHead, Unpool


class Autoencoder(nn.Module):
    """SegNet with its final head: (B, C, H, W) → (B, O, H, W) through a latent of 1/32 of the size.

    :param in_channels: C
    :param out_channels: O
    :param width: channels of the first level
    :param bottleneck: channels of the latent; 8 · width if None (512 for the papers' 64)
    :param unpool: ``"indices"`` puts values back where the maxima were; ``"upsample"`` repeats them, so that nothing
        passes around the latent
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int = 64,
        bottleneck: int | None = None,
        unpool: Unpool = "indices",
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        self.encoder = Encoder(in_channels, width, bottleneck, norm, indices=unpool == "indices")
        self.decoder = Decoder(width, bottleneck, norm)
        self.head = SegNetHead(width, out_channels)

    def encode(self, x: Tensor) -> Latent:
        """(B, C, H, W) with H, W ≥ 32 → latent (B, bottleneck, H // 32, W // 32) and what the decoder needs."""
        latent: Latent = self.encoder(x)
        return latent

    def decode(self, latent: Latent) -> Tensor:
        """What :meth:`encode` gave → (B, O, H, W)."""
        decoded: Tensor = self.head(self.decoder(latent))
        return decoded

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class Networks:
    """The factory that the hook ``setup`` receives.

    :param width: the backbone's; what a call uses that names none
    :param norm: ``"batch"`` or ``"group"``, of every network made
    """

    def __init__(self, width: int = 64, norm: Norm = "batch") -> None:
        self.width, self.norm = width, norm

    def autoencoder(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int | None = None,
        bottleneck: int | None = None,
        unpool: Unpool = "indices",
    ) -> Autoencoder:
        """A network with a latent in the middle; see :class:`Autoencoder`."""
        return Autoencoder(in_channels, out_channels, width or self.width, bottleneck, unpool, self.norm)

    def encoder(self, in_channels: int, *, width: int | None = None, bottleneck: int | None = None) -> Encoder:
        """The encoder half alone; its ``channels`` are those of the latent."""
        return Encoder(in_channels, width or self.width, bottleneck, self.norm)

    def mapping(self, in_channels: int, out_channels: int, *, width: int | None = None) -> Autoencoder:
        """A map from one task's output to another's, both (B, ·, H, W)."""
        return self.autoencoder(in_channels, out_channels, width=width)
