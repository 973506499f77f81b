"""Building blocks: SegNet, its halves, the factory that plugins get networks from, an average of a run's network."""

from mtl_nn.averaged import AveragedNetwork
from mtl_nn.networks import Autoencoder, Networks
from mtl_nn.recomputing import AveragesKept
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

__all__ = [
    "SMALLEST",
    "Autoencoder",
    "AveragedNetwork",
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
