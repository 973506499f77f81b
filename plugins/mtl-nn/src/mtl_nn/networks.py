"""Networks that regularizers ask for: of the backbone's kind and width, with other channels.

Shape letters: B samples, C and O channels in and out, H and W image size.
"""

from __future__ import annotations

from torch import Tensor, nn

from mtl_core import MtlError
from mtl_nn.segnet import Decoder, Encoder, Latent, Norm, SegNet, SegNetHead, Unpool


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
    """Makes networks of a backbone's kind and width, with other channels.

    :param width: the backbone's; what a call uses that names none
    :param norm: ``"batch"`` or ``"group"``; what a call uses that names none
    :param backbone: what :meth:`like_backbone` asks for networks of its kind
    """

    def __init__(self, width: int = 64, norm: Norm = "batch", backbone: nn.Module | None = None) -> None:
        self.width = width
        self.norm = norm
        self.backbone = backbone

    @classmethod
    def of(cls, backbone: nn.Module) -> Networks:
        """The factory for the backbone that the hook ``setup`` is given.

        Width and norm are the backbone's attributes ``width`` and ``norm``; 64 and ``"batch"`` where it has none.
        """
        return cls(getattr(backbone, "width", 64), getattr(backbone, "norm", "batch"), backbone)

    def autoencoder(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int | None = None,
        bottleneck: int | None = None,
        unpool: Unpool = "indices",
        norm: Norm | None = None,
    ) -> Autoencoder:
        """A SegNet with a latent in the middle; see :class:`Autoencoder`."""
        return Autoencoder(in_channels, out_channels, width or self.width, bottleneck, unpool, norm or self.norm)

    def like_backbone(self, in_channels: int, out_channels: int, *, bottleneck: int | None = None) -> nn.Module:
        """An autoencoder of the backbone's kind: SegNet, or what its method ``autoencoder`` makes.

        That method takes (in_channels, out_channels, bottleneck) and gives a module with ``encode`` and ``decode`` as
        :class:`Autoencoder` has them, whose parameters after the latent are those of ``decoder`` and ``head``. Only
        ``features`` of its latent may carry gradients.

        :raises MtlError: the backbone makes none
        """
        if isinstance(self.backbone, SegNet):
            return self.autoencoder(in_channels, out_channels, bottleneck=bottleneck)
        make = getattr(self.backbone, "autoencoder", None)
        if make is None:
            raise MtlError(
                f"the backbone {type(self.backbone).__name__} makes no autoencoder of its kind (it has no method"
                " `autoencoder`); use a SegNet instead"
            )
        made: nn.Module = make(in_channels, out_channels, bottleneck)
        return made

    def encoder(
        self, in_channels: int, *, width: int | None = None, bottleneck: int | None = None, norm: Norm | None = None
    ) -> Encoder:
        """SegNet's encoder half alone; its ``channels`` are those of the latent."""
        return Encoder(in_channels, width or self.width, bottleneck, norm or self.norm)

    def mapping(self, in_channels: int, out_channels: int, *, width: int | None = None) -> Autoencoder:
        """A map from one task's output to another's, both (B, ·, H, W)."""
        return self.autoencoder(in_channels, out_channels, width=width)
