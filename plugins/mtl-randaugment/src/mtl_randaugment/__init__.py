"""RandAugment on whole batches, and joint geometry of images and labels."""

from mtl_randaugment.geometry import Geometry
from mtl_randaugment.randaugment import RandAugment

__all__ = ["Geometry", "RandAugment"]
