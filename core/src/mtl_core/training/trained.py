"""A run's trained network, from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtl_core.errors import CheckpointError, nearest
from mtl_core.experiment import Experiment
from mtl_core.hooks.relay import Hooks
from mtl_core.run_folder import RunFolder
from mtl_core.training.checkpoint import load_checkpoint, restore
from mtl_core.training.network import Network
from mtl_core.training.run_files import load_run
from mtl_core.training.saved_tasks import tasks_from_plain
from mtl_core.training.session import Model, build_network, open_hooks
from mtl_core.training.task_options import with_saved_options
from mtl_core.training.warm_start import network_weights

CHECKPOINTS = ("last", "best")


def unknown_checkpoint(where: str, name: str) -> str:
    """A message on a checkpoint that no run has."""
    return f"{where} {name}: expected last or best{nearest(name, CHECKPOINTS)}"


def open_network(
    run: RunFolder, name: str = "last", overrides: Sequence[str] = ()
) -> tuple[Network, tuple[int, int], Hooks]:
    """A run's trained network, in evaluation mode on the CPU, the image size (H, W) that it was trained with, and the
    plugins that made it.

    :param overrides: settings that differ on this machine, such as ``plugins.name.weights=none``
    """
    path = run.require().checkpoint(name)
    state = load_checkpoint(path)
    hooks = open_hooks(load_run(run, overrides), ("build_backbone", "build_heads"))
    return *network_from(hooks, state, path), hooks


def load_model(experiment: Experiment, state: dict[str, Any], path: Path) -> Model:
    """Network and plugins of a checkpoint, without data.

    :param path: of the checkpoint, for messages
    """
    hooks = open_hooks(experiment)
    network, size = network_from(hooks, state, path)
    network.tasks = with_saved_options(experiment, network.tasks)
    return Model(experiment, hooks, network, size)


def network_from(hooks: Hooks, state: dict[str, Any], path: Path) -> tuple[Network, tuple[int, int]]:
    tasks = tasks_from_plain(state.get("tasks"), str(path))
    size = _image_size(state, path)
    # any seed will do: every weight is replaced below
    network = build_network(0, hooks, tasks, size)
    weights = state.get("step")
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path}: holds no weights; expected a checkpoint that `mtl train` wrote")
    restore(path, network, network_weights(state))
    return network.eval(), size


_LARGEST = 2**26
"""Pixels of the largest image size that is taken from a checkpoint: 8192 × 8192."""


def _image_size(state: dict[str, Any], path: Path) -> tuple[int, int]:
    size = state.get("image_size")
    if isinstance(size, list | tuple) and len(size) == 2 and all(type(n) is int and n > 0 for n in size):
        height, width = size
        if height * width <= _LARGEST:
            return height, width
    raise CheckpointError(
        f"{path}: image size {size!r}; expected (height, width) of at most {_LARGEST} pixels together;"
        " is this a checkpoint that `mtl train` wrote?"
    )
