"""Cross-task maps."""

from mtl_crosstask.direct import DirectMap
from mtl_crosstask.perceptual import PerceptualMap

__all__ = ["DirectMap", "PerceptualMap"]
