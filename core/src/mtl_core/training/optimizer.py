"""Optimizer and schedule of an experiment."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim import lr_scheduler as schedules

from mtl_core.errors import ContractError
from mtl_core.experiment import Experiment
from mtl_core.hooks.relay import Hooks

OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def make_optimizer(experiment: Experiment, module: nn.Module, hooks: Hooks) -> Optimizer:
    """One optimizer over the module's parameters: the plugins' own groups, the rest in the main group.

    Fused kernels take a ``found_inf`` tensor, so that a bad step is skipped without asking the device.
    """
    own = hooks.parameter_groups(experiment.learning_rate)
    named = [p for group in own for p in group["params"]]
    taken = {id(p) for p in named}
    if len(taken) != len(named):
        raise ContractError("parameter_groups: two plugins, or one plugin twice, named the same parameter")
    rest = [p for p in module.parameters() if p.requires_grad and id(p) not in taken]
    options: dict[str, Any] = {"lr": experiment.learning_rate, "weight_decay": experiment.weight_decay, "fused": True}
    if experiment.optimizer == "sgd":
        options["momentum"] = experiment.momentum
    return OPTIMIZERS[experiment.optimizer]([{"params": rest}, *own], **options)


def make_schedule(experiment: Experiment, optimizer: Optimizer) -> schedules.LRScheduler:
    """The learning rate over the epochs; stepped once per epoch."""
    epochs = experiment.epochs
    if experiment.schedule == "step":
        milestones = [round(share * epochs) for share in experiment.drops]
        return schedules.MultiStepLR(optimizer, milestones, gamma=experiment.drop_factor)
    if experiment.schedule == "cosine":
        return schedules.CosineAnnealingLR(optimizer, T_max=epochs)
    if experiment.schedule == "poly":
        return schedules.PolynomialLR(optimizer, total_iters=epochs, power=0.9)
    return schedules.LambdaLR(optimizer, lambda epoch: 1.0)


def not_finite(parameters: list[Tensor]) -> Tensor:
    """1.0 if any gradient is infinite or NaN, else 0.0, on the device: what fused optimizers call ``found_inf``."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return (~torch.nn.utils.get_total_norm(gradients).isfinite()).float()
