"""Kinds of tasks that a folder can hold: ``kind`` in a description → its class."""

from mtl_folder.kinds.base import Dense
from mtl_folder.kinds.distance import DepthFiles, DisparityFiles
from mtl_folder.kinds.maps import EdgeFiles, RegressionFiles
from mtl_folder.kinds.normals import NormalsFiles
from mtl_folder.kinds.per_image import ClassificationCells, PerImage, RegressionCells
from mtl_folder.kinds.segmentation import SegmentationFiles

Kind = Dense | PerImage

KINDS: dict[str, type[Dense] | type[PerImage]] = {
    "segmentation": SegmentationFiles,
    "depth": DepthFiles,
    "disparity": DisparityFiles,
    "normals": NormalsFiles,
    "edges": EdgeFiles,
    "regression": RegressionFiles,
    "classification": ClassificationCells,
    "image-regression": RegressionCells,
}

__all__ = ["KINDS", "Dense", "Kind", "PerImage"]
