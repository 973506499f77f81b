"""mtl: a plugin framework for multi-task learning when labels are missing and tasks fight.

What authors of plugins import, all from here; the rest of the package may change from one version to the next.
Names are loaded when they are used: ``import mtl_core`` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import About, plugin
from mtl_core.options.fields import help

if TYPE_CHECKING:
    from mtl_core.commands.evaluate import evaluate_run
    from mtl_core.commands.train import differences, train, train_and_print
    from mtl_core.console import is_rank_zero, progress
    from mtl_core.data.sample import Batch, ExtraData, MultiTaskDataset, Sample, read_sample
    from mtl_core.discovery import InstalledPlugin, distribution_name, installed_plugins
    from mtl_core.errors import CheckpointError, ContractError, DataError, ExperimentError, MtlError, nearest
    from mtl_core.experiment import Experiment, is_name
    from mtl_core.hooks.isolation import check_all
    from mtl_core.options.read import read_options
    from mtl_core.options.type_names import describe_value
    from mtl_core.run_folder import RunFolder, plain_json, skipped_steps, to_json, write_atomically, write_text
    from mtl_core.seeds import generator_beside, generator_for
    from mtl_core.settings.composition import merged, read_document
    from mtl_core.settings.diff import MAY_CHANGE, differing, unlike
    from mtl_core.settings.document import parse_toml, read_toml
    from mtl_core.settings.file_keys import anchor_files, short_name
    from mtl_core.settings.overrides import split_key
    from mtl_core.settings.plugins import not_installed
    from mtl_core.settings.toml_file import dump_experiment, load_experiment, options_of, parse_experiment
    from mtl_core.step.crops import draw_windows
    from mtl_core.step.encoder_gradients import Branch, EncoderGradients, Shaped
    from mtl_core.step.finished_run import Drawings, Examples, FinishedRun
    from mtl_core.step.look_ahead import LookAhead, Parameters, Source, shared_gramian
    from mtl_core.step.ramp import ramp_up
    from mtl_core.step.step import Features, Step
    from mtl_core.tasks.classification import Classification
    from mtl_core.tasks.edges import BinaryEdges
    from mtl_core.tasks.normals import Normals
    from mtl_core.tasks.pictures import Pixels, palette
    from mtl_core.tasks.precision import at_least_float32
    from mtl_core.tasks.regression import Depth, Regression
    from mtl_core.tasks.segmentation import Segmentation
    from mtl_core.tasks.task import Task, masked_mean, setting
    from mtl_core.tasks.tasks import Tasks
    from mtl_core.training.checkpoint import load_checkpoint
    from mtl_core.training.evaluation import metric_names
    from mtl_core.training.fabric import make_fabric
    from mtl_core.training.loader import BatchOrder, split_validation
    from mtl_core.training.session import chosen_tasks, label_mask, load_labels, open_hooks
    from mtl_core.training.trained import network_from
    from mtl_core.training.trained_network import TrainedNetwork, load_network

_HOMES = {
    "commands.train": ("differences", "train", "train_and_print"),
    "commands.evaluate": ("evaluate_run",),
    "console": ("is_rank_zero", "progress"),
    "data.sample": (
        "Batch",
        "ExtraData",
        "MultiTaskDataset",
        "Sample",
        "read_sample",
    ),
    "discovery": (
        "InstalledPlugin",
        "distribution_name",
        "installed_plugins",
    ),
    "errors": (
        "CheckpointError",
        "ContractError",
        "DataError",
        "ExperimentError",
        "MtlError",
        "nearest",
    ),
    "experiment": (
        "Experiment",
        "is_name",
    ),
    "hooks.isolation": ("check_all",),
    "options.read": ("read_options",),
    "options.type_names": ("describe_value",),
    "run_folder": (
        "RunFolder",
        "plain_json",
        "skipped_steps",
        "to_json",
        "write_atomically",
        "write_text",
    ),
    "seeds": (
        "generator_beside",
        "generator_for",
    ),
    "settings.composition": (
        "merged",
        "read_document",
    ),
    "settings.document": (
        "parse_toml",
        "read_toml",
    ),
    "settings.diff": (
        "MAY_CHANGE",
        "differing",
        "unlike",
    ),
    "settings.file_keys": ("anchor_files", "short_name"),
    "settings.overrides": ("split_key",),
    "settings.plugins": ("not_installed",),
    "settings.toml_file": (
        "dump_experiment",
        "load_experiment",
        "options_of",
        "parse_experiment",
    ),
    "step.crops": ("draw_windows",),
    "step.encoder_gradients": (
        "Branch",
        "EncoderGradients",
        "Shaped",
    ),
    "step.finished_run": (
        "Drawings",
        "Examples",
        "FinishedRun",
    ),
    "step.look_ahead": (
        "LookAhead",
        "Parameters",
        "Source",
        "shared_gramian",
    ),
    "step.ramp": ("ramp_up",),
    "step.step": (
        "Features",
        "Step",
    ),
    "tasks.classification": ("Classification",),
    "tasks.edges": ("BinaryEdges",),
    "tasks.normals": ("Normals",),
    "tasks.pictures": ("Pixels", "palette"),
    "tasks.precision": ("at_least_float32",),
    "tasks.regression": (
        "Depth",
        "Regression",
    ),
    "tasks.segmentation": ("Segmentation",),
    "tasks.task": (
        "Task",
        "masked_mean",
        "setting",
    ),
    "tasks.tasks": ("Tasks",),
    "training.checkpoint": ("load_checkpoint",),
    "training.evaluation": ("metric_names",),
    "training.fabric": ("make_fabric",),
    "training.loader": (
        "BatchOrder",
        "split_validation",
    ),
    "training.session": (
        "chosen_tasks",
        "label_mask",
        "load_labels",
        "open_hooks",
    ),
    "training.trained": ("network_from",),
    "training.trained_network": (
        "TrainedNetwork",
        "load_network",
    ),
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
    "Drawings",
    "EncoderGradients",
    "Examples",
    "Experiment",
    "ExperimentError",
    "ExtraData",
    "Features",
    "FinishedRun",
    "InstalledPlugin",
    "LookAhead",
    "MtlError",
    "MultiTaskDataset",
    "Normals",
    "Parameters",
    "Pixels",
    "Regression",
    "RunFolder",
    "Sample",
    "Segmentation",
    "Shaped",
    "Source",
    "Step",
    "Task",
    "Tasks",
    "TrainedNetwork",
    "anchor_files",
    "at_least_float32",
    "check_all",
    "chosen_tasks",
    "describe_value",
    "differences",
    "differing",
    "distribution_name",
    "draw_windows",
    "dump_experiment",
    "evaluate_run",
    "generator_beside",
    "generator_for",
    "help",
    "hookimpl",
    "installed_plugins",
    "is_name",
    "is_rank_zero",
    "label_mask",
    "load_checkpoint",
    "load_experiment",
    "load_labels",
    "load_network",
    "make_fabric",
    "masked_mean",
    "merged",
    "metric_names",
    "nearest",
    "network_from",
    "not_installed",
    "open_hooks",
    "options_of",
    "palette",
    "parse_experiment",
    "parse_toml",
    "plain_json",
    "plugin",
    "progress",
    "ramp_up",
    "read_document",
    "read_options",
    "read_sample",
    "read_toml",
    "setting",
    "shared_gramian",
    "short_name",
    "skipped_steps",
    "split_key",
    "split_validation",
    "to_json",
    "train",
    "train_and_print",
    "unlike",
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
