"""Impartial Auxiliary Learning."""

from mtl_ial.plugin import IAL
from mtl_ial.rules import Reference, encoder_weight, impartial_weights, inverse, uncertainty_loss

__all__ = ["IAL", "Reference", "encoder_weight", "impartial_weights", "inverse", "uncertainty_loss"]
