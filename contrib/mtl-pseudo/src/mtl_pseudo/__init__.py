"""Pseudo-tasks: what pretrained models say of the images, as auxiliary tasks of any data set."""

from mtl_pseudo.plugin import Pseudo

__all__ = ["Pseudo"]
