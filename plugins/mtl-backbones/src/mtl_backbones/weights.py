"""Weights of an encoder from a local file, and a report of what was used of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError

import attrs
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mtl_core import DataError

_State = Mapping[str, Tensor]

_WRAPPERS = ("module.", "encoder.", "backbone.", "model.")
"""What other programs put before an encoder's names."""
_SHOWN = 3
"""How many names of a kind a message lists."""
_COUNTER = "num_batches_tracked"
"""A number that batch norm keeps and nothing here reads; old files lack it."""

_log = logging.getLogger("mtl")


@attrs.frozen
class Match:
    """How a file's tensors and an encoder's fit.

    :param used: names that both have, with one shape
    :param missing: names of the encoder that the file lacks
    :param unexpected: names of the file in parts that the encoder has
    :param shapes: names with both shapes, where they differ
    :param left_out: names of the file in parts that the encoder does not have, such as a classifier
    """

    used: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def total(self) -> int:
        """How many tensors the encoder has."""
        return len(self.used) + len(self.missing) + len(self.shapes)

    @property
    def differences(self) -> str:
        """Whatever does not fit, in words; empty if everything does."""
        kinds = {"missing keys": self.missing, "unexpected keys": self.unexpected, "wrong shapes": self.shapes}
        return "; ".join(f"{kind} {_listed(keys)}" for kind, keys in kinds.items() if keys)

    @property
    def report(self) -> str:
        parts = [f"{len(self.used)} of {self.total} tensors", self.differences]
        parts.append(f"left out {_listed(self.left_out)}" if self.left_out else "")
        return "; ".join(part for part in parts if part)


def load_weights(encoder: nn.Module, path: Path, name: str, partial: bool = False) -> Match:
    """Fill an encoder and log what was used; the layers of a classifier in the file are left out.

    :param path: a state dict, as ``torch.save`` or safetensors write it
    :param name: the encoder's name, for messages
    :param partial: accept a file that fits a part of the encoder
    :raises DataError: the file is missing, is no state dict, or is another network's; it names the keys
    """
    own = encoder.state_dict()
    state = _renamed(_read(path, name), own)
    match = _compare(state, own)
    if not match.used:
        raise DataError(
            f'{path}: does not fit the encoder "{name}": {match.differences}; no tensor matches, the file has'
            f" {_listed(list(state))}; give the state dict of this very encoder"
        )
    if match.differences and not partial:
        raise DataError(
            f'{path}: does not fit the encoder "{name}": {match.report}; give the state dict of this very encoder,'
            " or set partial_weights = true to use what fits"
        )
    # not encoder.load_state_dict: some encoders override it and drop keys without a word
    fitting = {key: state[key] for key in own if key in state and state[key].shape == own[key].shape}
    nn.Module.load_state_dict(encoder, fitting, strict=False)
    # a warning, because the command shows nothing below it
    _log.warning('%s → encoder "%s": %s', path, name, match.report)
    return match


def _read(path: Path, name: str) -> _State:
    if not path.is_file():
        raise DataError(
            f'{path}: no such file; `weights` is the path of a local state dict of "{name}"'
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
    return _unwrapped(found, path)


def _unwrapped(found: object, path: Path) -> _State:
    """The state dict itself, where a checkpoint carries it beside other things."""
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        keys = f" with the keys {_listed([str(key) for key in found])}" if isinstance(found, Mapping) else ""
        raise DataError(f"{path}: holds a {type(found).__name__}{keys}; expected a state dict, names with tensors")
    return found


def _renamed(state: _State, own: _State) -> _State:
    """The same tensors, named as the encoder names them, if only a prefix differs."""
    forms = [state, {f"model.{key}": value for key, value in state.items()}]
    forms += [{k.removeprefix(w): v for k, v in state.items() if k.startswith(w)} for w in _WRAPPERS]
    return max(forms, key=lambda form: len(form.keys() & own.keys()))


def _compare(state: _State, own: _State) -> Match:
    """What of a file's tensors an encoder can use."""
    wanted = [key for key in own if not key.endswith(_COUNTER)]
    offered = [key for key in state if not key.endswith(_COUNTER)]
    both = [key for key in wanted if key in state]
    parts = {_part(key) for key in own}
    extra = [key for key in offered if key not in own]
    return Match(
        used=tuple(key for key in both if state[key].shape == own[key].shape),
        missing=tuple(key for key in wanted if key not in state),
        unexpected=tuple(key for key in extra if _part(key) in parts),
        shapes=tuple(
            f"{key} {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
            for key in both
            if state[key].shape != own[key].shape
        ),
        left_out=tuple(key.removeprefix("model.") for key in extra if _part(key) not in parts),
    )


def _part(key: str) -> str:
    """The encoder's top-level module that a key belongs to."""
    return key.removeprefix("model.").split(".")[0]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
