"""The optimizer of an experiment."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtl_core.errors import ContractError
from mtl_core.experiment import Experiment
from mtl_core.hooks.relay import Hooks
from mtl_core.training.optimizers import build_optimizer, split_by_rates


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
    main = split_by_rates(module, rest, experiment.rates, experiment.learning_rate)
    optimizer = build_optimizer(experiment, [*main, *own])
    if isinstance(optimizer, torch.optim.SGD):
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


def gradient_norm(parameters: list[Tensor]) -> Tensor:
    """Norm of all gradients together, on the device; infinite or NaN where one of them is."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
