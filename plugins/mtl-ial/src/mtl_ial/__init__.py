"""Impartial Auxiliary Learning."""

from mtl_ial.measures import Progress, cosines, expected_norm, speed
from mtl_ial.plugin import IAL
from mtl_ial.rules import Reference, encoder_weight, impartial_weights, inverse, uncertainty_loss

__all__ = [
    "IAL",
    "Progress",
    "Reference",
    "cosines",
    "encoder_weight",
    "expected_norm",
    "impartial_weights",
    "inverse",
    "speed",
    "uncertainty_loss",
]
