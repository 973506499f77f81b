"""Joint-Task Regularization."""

from mtl_jtr.distances import distance
from mtl_jtr.plugin import JTR
from mtl_jtr.stacks import stacks

__all__ = ["JTR", "distance", "stacks"]
