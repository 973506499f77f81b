"""mtl: a plugin framework for multi-task learning when labels are missing and tasks fight.

Names are imported when they are used: ``import mtl_core`` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mtl_core.plugin import About, help, hookimpl, plugin

if TYPE_CHECKING:
    from mtl_core.data import Batch, MultiTaskDataset, Sample
    from mtl_core.errors import DataError, MtlError
    from mtl_core.experiment import Experiment
    from mtl_core.runner import train
    from mtl_core.seam import EncoderGradients, Shaped
    from mtl_core.settings import load_experiment
    from mtl_core.step import Step
    from mtl_core.tasks import (
        BinaryEdges,
        Classification,
        Depth,
        Normals,
        Regression,
        Segmentation,
        Task,
        Tasks,
    )

HOMES = {
    "data": ("Batch", "MultiTaskDataset", "Sample"),
    "errors": ("DataError", "MtlError"),
    "experiment": ("Experiment",),
    "seam": ("EncoderGradients", "Shaped"),
    "settings": ("load_experiment",),
    "step": ("Step",),
    "tasks": ("BinaryEdges", "Classification", "Depth", "Normals", "Regression", "Segmentation", "Task", "Tasks"),
    "runner": ("train",),
}

__all__ = [
    "About",
    "Batch",
    "BinaryEdges",
    "Classification",
    "DataError",
    "Depth",
    "EncoderGradients",
    "Experiment",
    "MtlError",
    "MultiTaskDataset",
    "Normals",
    "Regression",
    "Sample",
    "Segmentation",
    "Shaped",
    "Step",
    "Task",
    "Tasks",
    "help",
    "hookimpl",
    "load_experiment",
    "plugin",
    "train",
]


def __getattr__(name: str) -> Any:
    home = next((module for module, names in HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'mtl_core' has no attribute {name!r}")
    return getattr(import_module(f"mtl_core.{home}"), name)
