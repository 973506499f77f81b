"""What an experiment's settings ask of lightning-fabric: device, precision, strategy."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import lightning_fabric
import torch
from lightning_fabric.accelerators import ACCELERATOR_REGISTRY
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.precision import MixedPrecision, Precision
from lightning_fabric.strategies import STRATEGY_REGISTRY
from lightning_fabric.strategies.strategy import Strategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch.optim import Optimizer

from mtl_core.errors import MtlError, nearest
from mtl_core.experiment import Experiment

_log = logging.getLogger(__name__)


def _is_for_our_users(record: logging.LogRecord) -> bool:
    """All but Fabric's hint at a function of torch: users of an experiment have the setting ``matmul_precision``."""
    return "torch.set_float32_matmul_precision" not in record.getMessage()


# the same function each time: a logger keeps a filter once
logging.getLogger("lightning_fabric.utilities.rank_zero").addFilter(_is_for_our_users)


class _AutocastPrecision(MixedPrecision):
    """Mixed precision by autocast alone: images and labels stay float32, each operation chooses its own format.

    Fabric's own plugin casts the whole batch first. A depth in bfloat16 has 8 bits: a quarter of the signs of an L1
    gradient would be wrong at errors of 5 cm, and a label above 65504 would be infinite in float16.
    """

    def convert_input(self, data: Any) -> Any:
        return Precision.convert_input(self, data)

    def unscale_gradients(self, optimizer: Optimizer) -> None:
        """Divide the loss scale out of the gradients; Fabric refuses this for fused optimizers, torch does not."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def optimizer_step(self, optimizer: Any, **kwargs: Any) -> Any:
        """A step with gradients that are unscaled already; ``found_inf`` on the optimizer says whether it is taken."""
        # not scaler.step: the optimizer looks at `found_inf` itself, and unscale_ has noted what update needs
        output = Precision.optimizer_step(self, optimizer, **kwargs)
        if self.scaler is not None:
            self.scaler.update()
        return output


def make_fabric(experiment: Experiment) -> lightning_fabric.Fabric:
    """What the experiment's settings ask of Fabric.

    :raises MtlError: this machine has no such device; the strategy is none that a run works with; several machines are
        asked for, and nothing has started a process on each
    """
    _check_strategy(experiment.strategy)
    _choose_algorithms(experiment)
    try:
        fabric = lightning_fabric.Fabric(
            accelerator=experiment.device,
            devices=experiment.devices,
            num_nodes=experiment.nodes,
            strategy=experiment.strategy,
            plugins=[precision] if (precision := _half_precision(experiment)) else None,
        )
    except (RuntimeError, TypeError, ValueError, ImportError, MisconfigurationException) as error:
        raise _refused(experiment, " ".join(str(error).split())) from error
    _check_launcher(experiment, fabric.strategy)
    if experiment.precision == "bf16" and fabric.device.type == "cpu" and _emulates_bf16():
        _log.warning('precision = "bf16": this CPU emulates bfloat16, which is many times slower; use precision = "32"')
    return fabric


_USABLE = ("auto", "ddp", "ddp_find_unused_parameters_true")
"""Strategies that a run works with: every device has the whole network, in a process that begins like the first."""
_INSIDE = ("ddp_spawn", "ddp_fork", "ddp_notebook")
"""Strategies that start their processes in the middle of the program."""


def _check_strategy(name: str) -> None:
    """:raises MtlError: Fabric has no strategy of this name, or a run does not work with it"""
    if name in _USABLE:
        return
    use = 'use "ddp" or "auto"'
    if name in _INSIDE:
        reason = "its processes begin in the middle of the program, and a run's begin with the command"
    elif name in STRATEGY_REGISTRY.available_strategies():
        reason = (
            "splits the network over devices, or needs others than CUDA, MPS and CPU; evaluation, checkpoints and the"
            " check of gradients need all of it in one place"
        )
    else:
        reason = f"there is no such strategy{nearest(name, _USABLE)}"
        use = f"expected one of {', '.join(_USABLE)}"
    raise MtlError(f'strategy = "{name}": {reason}; {use}')


def _check_launcher(experiment: Experiment, strategy: Strategy) -> None:
    """Refuse to wait for processes on other machines that no launcher starts.

    :raises MtlError: ``nodes`` is above 1 and there is no launcher
    """
    environment = getattr(strategy, "cluster_environment", None)
    started = not isinstance(environment, LightningEnvironment) or "MASTER_ADDR" in os.environ
    if experiment.nodes > 1 and not started:
        raise MtlError(
            f"nodes = {experiment.nodes}: no launcher has started processes on {experiment.nodes} machines; start the"
            " command on each with torchrun (--nnodes, --rdzv-endpoint) or srun, or set nodes = 1"
        )


def _half_precision(experiment: Experiment) -> _AutocastPrecision | None:
    """The plugin for half precision; None for float32, which is Fabric's default."""
    if experiment.precision == "32":
        return None
    # a plugin object needs the device type, which Fabric chooses only later
    return _AutocastPrecision("bf16-mixed" if experiment.precision == "bf16" else "16-mixed", _device_type(experiment))


def _choose_algorithms(experiment: Experiment) -> None:
    """Set what torch decides for the whole process: how exact matrix products are, whether cuDNN times its algorithms,
    and whether they must repeat.

    :raises MtlError: both are asked for, though timing chooses another algorithm from run to run
    """
    if experiment.deterministic and experiment.cudnn_benchmark:
        raise MtlError(
            "deterministic, cudnn_benchmark: timing chooses other algorithms from run to run; use one of the two"
        )
    # only where it differs: torch's default is more than its name, and setting it anew might choose other CPU kernels
    if torch.get_float32_matmul_precision() != experiment.matmul_precision:
        torch.set_float32_matmul_precision(experiment.matmul_precision)
    torch.backends.cudnn.benchmark = experiment.cudnn_benchmark
    # only a warning: cross-entropy of images, for one, has no deterministic form on CUDA
    torch.use_deterministic_algorithms(experiment.deterministic, warn_only=True)
    if experiment.deterministic:
        # read by cuBLAS when it begins; without a fixed workspace its results depend on the streams in use
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _device_type(experiment: Experiment) -> str:
    """The device that Fabric will choose."""
    if experiment.device != "auto":
        return experiment.device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _refused(experiment: Experiment, reason: str) -> MtlError:
    """Which setting Fabric does not take."""
    if experiment.device != "auto" and not ACCELERATOR_REGISTRY[experiment.device]["accelerator"].is_available():
        known = f'device = "{experiment.device}": no such device on this machine ({reason})'
        return MtlError(f'{known}; use device = "auto" or "cpu"')
    if experiment.strategy != "auto":
        return MtlError(f'strategy = "{experiment.strategy}": {reason}')
    return MtlError(f'device = "{experiment.device}", devices = {experiment.devices}: {reason}')


def _emulates_bf16() -> bool:
    """Whether this x86 CPU lacks bfloat16 units; False where torch is too old to know."""
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return known.get("architecture") == "x86_64" and not any(known.get(unit) for unit in ("amx_bf16", "avx512_bf16"))
