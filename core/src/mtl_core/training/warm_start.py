"""A network that begins with the weights of another run, or of a file."""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from mtl_core.console import is_rank_zero
from mtl_core.errors import CheckpointError
from mtl_core.run_folder import RunFolder, to_json, write_text
from mtl_core.training.checkpoint import check_intact
from mtl_core.training.network import Network

_log = logging.getLogger("mtl")

_FILE = "warm-start.json"
"""What a run writes into its folder: which tensors it took and which it did not."""

_NESTED = ("state_dict", "model", "model_state_dict", "network")
"""Keys under which files hold their weights."""


@attrs.frozen
class Taken:
    """What became of a file's tensors.

    :param taken: names in the network
    :param other_shape: names → (shape in the file, shape in the network)
    :param missing: names in the network that the file lacks
    :param unused: names in the file that the network lacks
    """

    taken: list[str]
    other_shape: dict[str, list[list[int]]]
    missing: list[str]
    unused: list[str]

    @property
    def summary(self) -> str:
        """One line."""
        count = len(self.taken) + len(self.other_shape) + len(self.missing)
        parts = [f"{len(self.taken)} of {count} tensors taken"]
        rest = {"of another shape": list(self.other_shape), "not there": self.missing, "not used": self.unused}
        for word, names in rest.items():
            if names:
                parts.append(f"{len(names)} {word} ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})")
        return "; ".join(parts)


def warm_start(network: Network, source: str, run: RunFolder | None) -> Taken:
    """Give a network the tensors of a file that have its names and shapes, and report what became of all of them.

    :param source: a run's folder (its last checkpoint), a checkpoint, or a file of weights (``.pt``, ``.pth``,
        ``.safetensors``) with names of the network or of its encoder
    :param run: whose folder receives the report
    :raises CheckpointError: the file cannot be read, or nothing of it fits
    """
    path = _file_of(Path(source))
    own = network.state_dict()
    weights = _renamed(_weights_of(path), own)
    fitting = {name: value for name, value in weights.items() if name in own and value.shape == own[name].shape}
    if not fitting:
        examples = f"it has {', '.join(list(weights)[:3])}; the network has {', '.join(list(own)[:3])}"
        raise CheckpointError(
            f"start_from: {path}: none of its tensors has a name and shape of the network ({examples})"
        )
    network.load_state_dict(fitting, strict=False)
    report = Taken(
        list(fitting),
        {n: [list(weights[n].shape), list(own[n].shape)] for n in own if n in weights and n not in fitting},
        [name for name in own if name not in weights],
        [name for name in weights if name not in own],
    )
    _tell(report, path, run)
    return report


def _tell(report: Taken, path: Path, run: RunFolder | None) -> None:
    if not is_rank_zero():
        return
    _log.warning("start_from %s: %s", path, report.summary)
    if run is not None:
        write_text(run.folder / _FILE, to_json({"file": str(path), **attrs.asdict(report)}, indent=2))


def _file_of(path: Path) -> Path:
    """The file of weights behind a path."""
    if path.is_dir():
        return RunFolder(path).require().checkpoint()
    if not path.is_file():
        raise CheckpointError(f"start_from: {path}: no such file; expected a run's folder or a file of weights")
    return path


def _weights_of(path: Path) -> dict[str, Tensor]:
    """The tensors in a file, by name; of a checkpoint of mtl the network's, averaged ones where it has them."""
    state = _read(path)
    # a checkpoint of mtl; in other files "step" may be a number
    if "format" in state and isinstance(state.get("step"), Mapping):
        return network_weights(state)
    for key in _NESTED:
        if isinstance(state.get(key), Mapping):
            state = state[key]
            break
    return {str(name): value for name, value in state.items() if isinstance(value, Tensor)}


def network_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's tensors in a checkpoint: those that are evaluated, averages where there are some."""
    average = state.get("ema")
    if isinstance(average, Mapping) and isinstance(average.get("network"), Mapping):
        return dict(average["network"])
    return {n.removeprefix("network."): v for n, v in state["step"].items() if n.startswith("network.")}


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if zipfile.is_zipfile(path):  # files of old versions of torch have no checksums
        check_intact(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(f"start_from: {path}: cannot be read as weights ({reason})") from error
    if not isinstance(state, Mapping):
        raise CheckpointError(f"start_from: {path}: holds a {type(state).__name__}, expected a state dict")
    return dict(state)


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(
            f'start_from: {path}: needs the package safetensors; pip install "mtl-core[safetensors]"'
        ) from error
    try:
        loaded: dict[str, Any] = load_file(path)
    except Exception as error:  # the library's own kind of error, which is no public name
        raise CheckpointError(f"start_from: {path}: cannot be read as safetensors ({error})") from error
    return loaded


def _renamed(weights: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names of the network, where they have those of its encoder, or of a module around it."""
    readings = [weights, {f"backbone.{name}": value for name, value in weights.items()}]
    for prefix in ("network.", "module."):
        readings.append({name.removeprefix(prefix): value for name, value in weights.items()})
    # of equally good readings the first one: the names as they are
    return max(readings, key=lambda reading: len(reading.keys() & own.keys()))
