"""Weights of an encoder from a local file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mtl_core import DataError

State = Mapping[str, Tensor]

WRAPPERS = ("module.", "encoder.", "backbone.", "model.")
"""What other programs put before an encoder's names."""
SHOWN = 3
"""How many names of a kind an error lists."""


def load_weights(encoder: nn.Module, path: Path, name: str) -> None:
    """Fill an encoder; the layers of a classifier in the file are left out.

    :param path: a state dict, as ``torch.save`` or safetensors write it
    :param name: the encoder's name, for messages
    :raises DataError: the file is missing, is no state dict, or is another network's; it names the keys
    """
    own = encoder.state_dict()
    state = renamed(read(path, name), own)
    wrong = differences(state, own)
    if wrong:
        raise DataError(
            f'{path}: does not fit the encoder "{name}": {"; ".join(wrong)}; give the state dict of this very encoder'
        )
    # not encoder.load_state_dict: some encoders override it and drop keys without a word
    nn.Module.load_state_dict(encoder, {key: state[key] for key in own if key in state}, strict=False)


def read(path: Path, name: str) -> State:
    if not path.is_file():
        raise DataError(
            f'{path}: no such file; `weights` of the plugin smp is the path of a local state dict of "{name}"'
            " (nothing is downloaded); leave it out to start from random weights"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, ValueError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(
            f"{path}: cannot be read as a state dict ({reason}); expected what torch.save or safetensors write"
        ) from error
    return unwrapped(found, path)


def unwrapped(found: object, path: Path) -> State:
    """The state dict itself, where a checkpoint carries it beside other things."""
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        keys = f" with the keys {listed([str(key) for key in found])}" if isinstance(found, Mapping) else ""
        raise DataError(f"{path}: holds a {type(found).__name__}{keys}; expected a state dict, names with tensors")
    return found


def renamed(state: State, own: State) -> State:
    """The same tensors, named as the encoder names them, if only a prefix differs."""
    forms = [state, {f"model.{key}": value for key, value in state.items()}]
    forms += [{k.removeprefix(w): v for k, v in state.items() if k.startswith(w)} for w in WRAPPERS]
    return max(forms, key=lambda form: len(form.keys() & own.keys()))


def differences(state: State, own: State) -> list[str]:
    """Missing, unexpected and misshapen entries, a text for each kind that there is."""
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    parts = {part(key) for key in own}
    unexpected = [key for key in state if key not in own and part(key) in parts]
    shapes = [
        f"{key} {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    kinds = {"missing keys": missing, "unexpected keys": unexpected, "wrong shapes": shapes}
    return [f"{kind} {listed(keys)}" for kind, keys in kinds.items() if keys]


def part(key: str) -> str:
    """The encoder's top-level module that a key belongs to."""
    return key.removeprefix("model.").split(".")[0]


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
