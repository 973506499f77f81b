"""mtl: a plugin framework for multi-task learning when labels are missing and tasks fight.

What authors of plugins import, all from here; the rest of the package may change from one version to the next.
Names are loaded when they are used: ``import mtl_core`` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mtl_core.plugin import About, help, hookimpl, plugin

if TYPE_CHECKING:
    from mtl_core.data import Batch, ExtraData, MultiTaskDataset, Sample
    from mtl_core.errors import CheckpointError, ContractError, DataError, ExperimentError, MtlError, nearest
    from mtl_core.experiment import Experiment
    from mtl_core.loading import BatchOrder, split_validation
    from mtl_core.look_ahead import LookAhead, Parameters
    from mtl_core.loop import make_fabric
    from mtl_core.predict import network_from
    from mtl_core.run import Run, to_json, write_atomically, write_text
    from mtl_core.runner import MAY_CHANGE, differences, train
    from mtl_core.seam import Branch, EncoderGradients, Shaped
    from mtl_core.seeds import generator_beside, generator_for
    from mtl_core.session import chosen_tasks, label_mask, load_labels, open_hooks
    from mtl_core.settings import dump_experiment, load_experiment, parse_experiment
    from mtl_core.step import Features, Step
    from mtl_core.tasks import (
        BinaryEdges,
        Classification,
        Depth,
        Normals,
        Regression,
        Segmentation,
        Task,
        Tasks,
        masked_mean,
    )
    from mtl_core.views import draw_windows

_HOMES = {
    "data": (
        "Batch",
        "ExtraData",
        "MultiTaskDataset",
        "Sample",
    ),
    "errors": (
        "CheckpointError",
        "ContractError",
        "DataError",
        "ExperimentError",
        "MtlError",
        "nearest",
    ),
    "experiment": ("Experiment",),
    "loading": (
        "BatchOrder",
        "split_validation",
    ),
    "look_ahead": (
        "LookAhead",
        "Parameters",
    ),
    "loop": ("make_fabric",),
    "predict": ("network_from",),
    "run": (
        "Run",
        "to_json",
        "write_atomically",
        "write_text",
    ),
    "runner": (
        "MAY_CHANGE",
        "differences",
        "train",
    ),
    "seam": (
        "Branch",
        "EncoderGradients",
        "Shaped",
    ),
    "seeds": (
        "generator_beside",
        "generator_for",
    ),
    "session": (
        "chosen_tasks",
        "label_mask",
        "load_labels",
        "open_hooks",
    ),
    "settings": (
        "dump_experiment",
        "load_experiment",
        "parse_experiment",
    ),
    "step": (
        "Features",
        "Step",
    ),
    "tasks": (
        "BinaryEdges",
        "Classification",
        "Depth",
        "Normals",
        "Regression",
        "Segmentation",
        "Task",
        "Tasks",
        "masked_mean",
    ),
    "views": ("draw_windows",),
}
"""Module → the names that it defines. A test holds this table and the imports above together."""

__all__ = [
    "MAY_CHANGE",
    "About",
    "Batch",
    "BatchOrder",
    "BinaryEdges",
    "Branch",
    "CheckpointError",
    "Classification",
    "ContractError",
    "DataError",
    "Depth",
    "EncoderGradients",
    "Experiment",
    "ExperimentError",
    "ExtraData",
    "Features",
    "LookAhead",
    "MtlError",
    "MultiTaskDataset",
    "Normals",
    "Parameters",
    "Regression",
    "Run",
    "Sample",
    "Segmentation",
    "Shaped",
    "Step",
    "Task",
    "Tasks",
    "chosen_tasks",
    "differences",
    "draw_windows",
    "dump_experiment",
    "generator_beside",
    "generator_for",
    "help",
    "hookimpl",
    "label_mask",
    "load_experiment",
    "load_labels",
    "make_fabric",
    "masked_mean",
    "nearest",
    "network_from",
    "open_hooks",
    "parse_experiment",
    "plugin",
    "split_validation",
    "to_json",
    "train",
    "write_atomically",
    "write_text",
]

_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'mtl_core' has no attribute {name!r}")
    value = getattr(import_module(f"mtl_core.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
