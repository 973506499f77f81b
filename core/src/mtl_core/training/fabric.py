"""What an experiment's settings ask of lightning-fabric: device, precision, strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning_fabric
import torch
from lightning_fabric.accelerators import ACCELERATOR_REGISTRY
from lightning_fabric.utilities.exceptions import MisconfigurationException

from mtl_core.errors import MtlError
from mtl_core.experiment import Experiment
from mtl_core.training.trainer import log

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def make_fabric(experiment: Experiment) -> lightning_fabric.Fabric:
    """What the experiment's settings ask of Fabric.

    :raises MtlError: this machine has no such device, or Fabric no such strategy for it
    """
    try:
        fabric = lightning_fabric.Fabric(
            accelerator=experiment.device,
            devices=experiment.devices,
            num_nodes=experiment.nodes,
            strategy=experiment.strategy,
            precision=PRECISIONS[experiment.precision],  # type: ignore[arg-type]
        )
    except (RuntimeError, ValueError, ImportError, MisconfigurationException) as error:
        raise refused(experiment, " ".join(str(error).split())) from error
    if experiment.precision == "bf16" and fabric.device.type == "cpu" and emulates_bf16():
        log.warning('precision = "bf16": this CPU emulates bfloat16, which is many times slower; use precision = "32"')
    return fabric


def refused(experiment: Experiment, reason: str) -> MtlError:
    """Which setting Fabric does not take."""
    if experiment.device != "auto" and not ACCELERATOR_REGISTRY[experiment.device]["accelerator"].is_available():
        known = f'device = "{experiment.device}": no such device on this machine ({reason})'
        return MtlError(f'{known}; use device = "auto" or "cpu"')
    if experiment.strategy != "auto":
        return MtlError(f'strategy = "{experiment.strategy}": {reason}')
    return MtlError(f'device = "{experiment.device}", devices = {experiment.devices}: {reason}')


def emulates_bf16() -> bool:
    """Whether this x86 CPU lacks bfloat16 units; False where torch is too old to know."""
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return known.get("architecture") == "x86_64" and not any(known.get(unit) for unit in ("amx_bf16", "avx512_bf16"))
