"""Trained networks as files of other formats: the command ``mtl export``."""

from mtl_export.export import FORMATS, Exported, export_run
from mtl_export.module import Predictor

__all__ = ["FORMATS", "Exported", "Predictor", "export_run"]
