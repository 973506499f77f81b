"""A model's weights from a local file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mtl_core import DataError

_State = Mapping[str, Tensor]

_PREFIXES = ("module.", "model.", "network.")
"""What programs put before a model's names."""
_SHOWN = 3
"""How many names of a kind an error lists."""


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Fill a model, every tensor of it.

    :param path: a state dict, as ``torch.save`` or safetensors write it
    :param name: the model's, for messages
    :raises DataError: the file is missing, is no state dict, or is another model's; it names the keys
    """
    own = model.state_dict()
    state = read(path, name)
    for prefix in _PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    wrong = _differences(state, own)
    if wrong:
        raise DataError(
            f'{path}: does not fit "{name}": {"; ".join(wrong)}; give the state dict of this very model, and `classes`'
            " where it has others than its library's"
        )
    model.load_state_dict(state, strict=False)


def read(path: Path, name: str) -> _State:
    if not path.is_file():
        raise DataError(
            f'{path}: no such file; expected a local state dict of "{name}" (nothing is downloaded); set `weights`'
        )
    try:
        found = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, ValueError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(
            f"{path}: cannot be read as a state dict ({reason}); expected what torch.save or safetensors write"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise DataError(f"{path}: holds a {type(found).__name__}; expected a state dict, names with tensors")
    return found


def _differences(state: _State, own: _State) -> list[str]:
    """Missing, unexpected and misshapen entries, a text for each kind that there is."""
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    shapes = [
        f"{key} {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    kinds = {"missing keys": missing, "unexpected keys": [k for k in state if k not in own], "wrong shapes": shapes}
    return [f"{kind} {_listed(keys)}" for kind, keys in kinds.items() if keys]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def digest(path: Path) -> str:
    """Of a file's bytes.

    :raises DataError: the file is missing
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); expected a model's weights; set `weights`"
        ) from error
