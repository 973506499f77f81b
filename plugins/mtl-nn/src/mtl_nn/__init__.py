"""Building blocks: SegNet, its halves, and the factory that plugins get networks from."""

from mtl_nn.networks import Autoencoder, Networks
from mtl_nn.segnet import (
    SMALLEST,
    Decoder,
    Encoder,
    Latent,
    Modulate,
    Norm,
    Pooled,
    SegNet,
    SegNetHead,
    Unpool,
    initialise,
    level,
    normalisation,
    unpool,
)
from mtl_nn.sparing import AveragesKept

__all__ = [
    "SMALLEST",
    "Autoencoder",
    "AveragesKept",
    "Decoder",
    "Encoder",
    "Latent",
    "Modulate",
    "Networks",
    "Norm",
    "Pooled",
    "SegNet",
    "SegNetHead",
    "Unpool",
    "initialise",
    "level",
    "normalisation",
    "unpool",
]
