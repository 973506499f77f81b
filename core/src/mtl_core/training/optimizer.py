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
    # by identity: == of tensors compares their values
    taken = {id(p) for p in named}
    if len(taken) != len(named):
        raise ContractError("parameter_groups: two plugins, or one plugin twice, named the same parameter")
    rest = [p for p in module.parameters() if p.requires_grad and id(p) not in taken]
    options: dict[str, Any] = {"lr": experiment.learning_rate, "weight_decay": experiment.weight_decay, "fused": True}
    if experiment.optimizer == "sgd":
        options["momentum"] = experiment.momentum
    optimizer = OPTIMIZERS[experiment.optimizer]([{"params": rest}, *own], **options)
    _begin_momentum(optimizer)
    return optimizer


def _begin_momentum(optimizer: Optimizer) -> None:
    """Give SGD's momentum its zeros.

    Torch's fused kernel makes the buffers in the first step without filling them, and fills them in the same step. If
    that step is skipped, which is normal in fp16, the next one goes on with what the memory happened to hold.
    """
    for group in optimizer.param_groups:
        if not group.get("momentum"):
            continue
        for p in group["params"]:
            optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)


def make_schedule(experiment: Experiment, optimizer: Optimizer) -> schedules.LRScheduler:
    """The learning rate over the epochs; stepped once per epoch."""
    epochs = experiment.epochs
    if experiment.schedule == "step":
        # shares of the run, so that a longer run drops later
        milestones = [round(share * epochs) for share in experiment.drops]
        return schedules.MultiStepLR(optimizer, milestones, gamma=experiment.drop_factor)
    if experiment.schedule == "cosine":
        return schedules.CosineAnnealingLR(optimizer, T_max=epochs)
    if experiment.schedule == "poly":
        return schedules.PolynomialLR(optimizer, total_iters=epochs, power=0.9)
    return schedules.LambdaLR(optimizer, lambda epoch: 1.0)


def gradient_norm(parameters: list[Tensor]) -> Tensor:
    """Norm of all gradients together, on the device; infinite or NaN where one of them is."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
