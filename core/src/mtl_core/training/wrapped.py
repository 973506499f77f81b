"""The training step and its optimizer on their device, as lightning-fabric wraps them."""

from __future__ import annotations

import attrs
import lightning_fabric
import torch
import torch.distributed as dist
from lightning_fabric.wrappers import _FabricModule, _FabricOptimizer
from torch.optim import Optimizer

from mtl_core.errors import MtlError
from mtl_core.experiment import Experiment
from mtl_core.training.batch_norm import batch_norms
from mtl_core.training.ema import Average
from mtl_core.training.network import Network
from mtl_core.training.optimizer import make_optimizer
from mtl_core.training.session import Session
from mtl_core.training.step import TrainingStep


@attrs.frozen(eq=False)
class Wrapped:
    """What an optimizer step runs, and what it changes.

    :param step: the module itself, whose names a checkpoint has
    :param module: the same as Fabric wraps it: with precision, and with DDP's sums in its backward pass
    :param raw_optimizer: torch's own
    :param optimizer: the same as Fabric wraps it
    :param ema: the average of the network's weights, if the experiment asks for one
    :param group: the process group of the seam and the losses; None for one process
    """

    step: TrainingStep
    module: _FabricModule
    raw_optimizer: Optimizer
    optimizer: _FabricOptimizer
    ema: Average | None
    group: dist.ProcessGroup | None

    @property
    def evaluated(self) -> Network:
        """The network that validation, results and predictions are made with."""
        return self.step.network if self.ema is None else self.ema.network


def wrap(session: Session, fabric: lightning_fabric.Fabric) -> Wrapped:
    """Hand module and optimizer of a session to Fabric, which must be launched."""
    experiment = session.experiment
    group = _own_group(fabric)
    step = TrainingStep(
        session.network,
        session.hooks,
        normalize=experiment.normalize,
        views=session.hooks.count_views(),
        seed=experiment.seed,
        rank=fabric.global_rank,
        group=group,
        level=experiment.level,
    )
    _prepare(step, experiment)
    # before the optimizer is made: its state is created where the parameters lie
    step.to(fabric.device)
    raw_optimizer = make_optimizer(experiment, step, session.hooks)
    # after compile, channels_last and the move to the device: DDP takes parameters as it finds them
    module, optimizer = fabric.setup(step, raw_optimizer)
    ema = None if experiment.ema is None else Average(step.network, experiment.ema)
    return Wrapped(step, module, raw_optimizer, optimizer, ema, group)


def _own_group(fabric: lightning_fabric.Fabric) -> dist.ProcessGroup | None:
    if fabric.world_size == 1:
        return None
    # a group of our own: DDP sends its buckets while the seam's sums are under way, and the two must not mix
    return dist.new_group()  # type: ignore[return-value]


def _prepare(step: TrainingStep, experiment: Experiment) -> None:
    """Memory format, fixed batch norm and compilation, as the experiment asks."""
    network = step.network
    if experiment.channels_last:
        step.to(memory_format=torch.channels_last)
    if experiment.batch_norm == "frozen":
        # lists only layers in training mode: those of frozen parts are fixed already
        network.fix(*batch_norms(network))
    if not experiment.compile:
        return
    if experiment.level == "parameters" and step.has_seam:
        raise MtlError(
            'level = "parameters" goes through the encoder once per task, which a compiled encoder does not'
            " allow; use compile = false"
        )
    network.compile_parts()
