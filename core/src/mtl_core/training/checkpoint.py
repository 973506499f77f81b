"""Checkpoints: tensors and plain types only, written atomically, loaded with ``weights_only=True``."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mtl_core.errors import CheckpointError
from mtl_core.run_folder import write_atomically

FORMAT = 1


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint; a reader sees the old one or the new one, whatever happens."""
    write_atomically(path, lambda part: torch.save({"format": FORMAT, **state}, part))


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint.

    :raises CheckpointError: it is missing, damaged, or of another format; the message says what to do
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; expected one that `mtl train` wrote (is the run finished?)")
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint ({reason}); expected a file that `mtl train` wrote;"
            " use the run's other checkpoint or train again"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(f"{path}: checkpoint format {found}, expected {FORMAT}; train again with this version")
    return state


def restore(path: Path, module: torch.nn.Module, state: Mapping[str, Any]) -> None:
    """Load a state dict into a module.

    :raises CheckpointError: names or shapes differ; the message names the first ones
    """
    own = module.state_dict()
    problems = [f"missing {name}" for name in own if name not in state]
    problems += [f"unexpected {name}" for name in state if name not in own]
    problems += [
        f"{name} has shape {tuple(state[name].shape)}, expected {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{path}: does not fit the experiment's networks: {'; '.join(problems[:3])}{more};"
            " resume with the settings that the run was started with (its experiment.toml)"
        )
    module.load_state_dict(dict(state))
