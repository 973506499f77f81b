"""Building blocks: SegNet, its halves, and the factory that plugins get networks from."""

from mtl_core.nn.networks import Autoencoder, Networks
from mtl_core.nn.segnet import Decoder, Encoder, Latent, SegNet, SegNetHead

__all__ = ["Autoencoder", "Decoder", "Encoder", "Latent", "Networks", "SegNet", "SegNetHead"]
