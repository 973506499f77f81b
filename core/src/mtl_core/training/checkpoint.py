"""Checkpoints: tensors and plain types only, written atomically, loaded with ``weights_only=True``."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mtl_core.errors import CheckpointError, ContractError
from mtl_core.run_folder import write_atomically

_FORMAT = 2


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint; a reader sees the old one or the new one, whatever happens."""
    if problem := _not_plain(state):
        raise ContractError(
            f"a checkpoint holds tensors and plain types only, because it is read as data; found {problem}:"
            " the plugin's state_dict has to give tensors, numbers, text, lists and dicts"
        )
    write_atomically(path, lambda part: _save({"format": _FORMAT, **state}, part))


def _save(state: Mapping[str, Any], path: Path) -> None:
    """Save with torch, whose error gives no reason; a write by hand makes the system raise its own error."""
    try:
        torch.save(state, path)
    except RuntimeError:
        with path.open("ab") as file:
            file.write(bytes(_PROBE))
            file.flush()
            os.fsync(file.fileno())
        raise


_PROBE = 2**20
"""Bytes for which a full disk has no room either."""


def _not_plain(value: object, where: str = "") -> str:
    """The first part of a state that could not be read again, or an empty string."""
    # type and not isinstance: a subclass of int or str is pickled as a class, which weights_only refuses to load
    if value is None or type(value) in (bool, int, float, str) or isinstance(value, torch.Tensor | torch.Size):
        return ""
    if isinstance(value, Mapping):
        parts = [(f"{where}.{key}", part) for key, part in value.items()]
    elif type(value) in (list, tuple):
        parts = [(f"{where}[{place}]", part) for place, part in enumerate(value)]  # type: ignore[arg-type, var-annotated]
    else:
        return f"a {type(value).__name__} at {where.removeprefix('.')}"
    return next((problem for name, part in parts if (problem := _not_plain(part, name))), "")


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint.

    :raises CheckpointError: it is missing, damaged, or of another format; the message says what to do
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; expected one that `mtl train` wrote (is the run finished?)")
    check_intact(path)
    try:
        # which of these errors comes depends on where the file is damaged
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint ({reason}); expected a file that `mtl train` wrote;"
            " use the run's other checkpoint or train again"
        ) from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(f"{path}: checkpoint format {found}, expected {_FORMAT}; train again with this version")
    return state


def check_intact(path: Path) -> None:
    """Compare the archive's contents with their checksums: torch loads weights with a flipped bit without a word.

    :raises CheckpointError: a part of the file is damaged
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (PermissionError, IsADirectoryError):
        # the system's own message says more, and the command line prints it
        raise
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, zlib.error, struct.error) as error:
        raise _unreadable(path, str(error) or type(error).__name__) from error
    if damaged is not None:
        raise _unreadable(path, f"the checksum of {damaged} is wrong")


def _unreadable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: cannot be read as a checkpoint ({reason[:120]}); expected a file that `mtl train` wrote;"
        " use the run's other checkpoint or train again"
    )


def check_optimizer_state(path: Path, state: object, optimizer: torch.optim.Optimizer) -> None:
    """Compare the shapes of a saved optimizer state with the parameters: fused kernels do not, and corrupt memory.

    :raises CheckpointError: it is of another optimizer, or of parameters of other shapes
    """
    remedy = "resume with the settings that the run was started with (its experiment.toml)"
    own = optimizer.state_dict()["param_groups"]
    groups = state.get("param_groups") if isinstance(state, dict) else None
    states = state.get("state") if isinstance(state, dict) else None
    sizes = [len(group["params"]) for group in own]
    if not isinstance(groups, list) or not isinstance(states, dict) or _sizes(groups) != sizes:
        raise CheckpointError(f"{path}: its optimizer state does not fit the experiment's parameters; {remedy}")
    if isinstance(optimizer, torch.optim.Adafactor):
        return  # it keeps rows and columns, and compares them itself
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for position, kept in states.items():
        if position not in range(len(parameters)) or not isinstance(kept, dict):
            raise CheckpointError(
                f"{path}: optimizer state of a parameter {position!r}, which the run does not have; {remedy}"
            )
        for name, value in kept.items():
            expected = parameters[position].shape
            # some values are one per parameter and not one per entry, such as Adam's count of steps
            if isinstance(value, torch.Tensor) and value.shape not in (expected, torch.Size([])):
                found = f"{name} of parameter {position} has shape {tuple(value.shape)}, expected {tuple(expected)}"
                raise CheckpointError(f"{path}: optimizer state: {found}; {remedy}")


def _sizes(groups: list[object]) -> list[int]:
    found = [group.get("params") if isinstance(group, dict) else None for group in groups]
    return [len(params) if isinstance(params, list) else -1 for params in found]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a state raises that is not of this run's form into one message.

    :raises CheckpointError: a part is missing, or of another type
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        found = f"no {reason} in it" if isinstance(error, KeyError) else f"{type(error).__name__}: {reason}"
        raise CheckpointError(
            f"{path}: not a state that this run can go on from ({found}); expected a file that `mtl train` of this"
            " version wrote; put the run's own checkpoint back, or start a new run"
        ) from error


def count_in(state: Mapping[str, Any], key: str, most: int | None = None) -> int:
    """A number of a checkpoint that counts something.

    :raises ValueError: it is no whole number from 0 to ``most``
    """
    value = state[key]
    if type(value) is int and value >= 0 and (most is None or value <= most):
        return value
    raise ValueError(f"{key} is {value!r:.40}, expected a whole number from 0{'' if most is None else f' to {most}'}")


def restore(path: Path, module: torch.nn.Module, state: object) -> None:
    """Load a state dict into a module.

    :raises CheckpointError: names, shapes or kinds of numbers differ; the message names the first ones
    """
    own = module.state_dict()
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path}: holds no weights; expected a checkpoint that `mtl train` wrote")
    state = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    problems = [f"missing {name}" for name in own if name not in state]
    problems += [f"unexpected {name}" for name in state if name not in own]
    problems += [
        f"{name} has shape {tuple(state[name].shape)}, expected {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    # load_state_dict copies with a cast: whole numbers would become weights without an error
    problems += [
        f"{name} is {_kind(state[name])}, expected {_kind(value)}"
        for name, value in own.items()
        if name in state and _kind(state[name]) != _kind(value)
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{path}: does not fit the experiment's networks: {'; '.join(problems[:3])}{more};"
            " resume with the settings that the run was started with (its experiment.toml)"
        )
    module.load_state_dict(dict(state))


def _kind(value: torch.Tensor) -> str:
    """Layout and kind of numbers, in words; how many bits they have does not matter."""
    if value.layout != torch.strided:
        return "sparse"
    if value.is_complex():
        return "dense and complex"
    return f"dense and of {'real' if value.is_floating_point() else 'whole'} numbers"
