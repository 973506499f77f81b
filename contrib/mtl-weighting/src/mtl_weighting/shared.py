"""The tasks' gradients of the shared parameters, one step ahead.

Shape letters: K tasks, P entries of the encoder's parameters together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from mtl_core import LookAhead


def shared_gramian(look_ahead: LookAhead) -> Tensor:
    """⟨∂L_i/∂θ, ∂L_j/∂θ⟩ on the step's own batch, θ the encoder's parameters: (K, K), the same on every rank.

    One forward pass and K backward passes of the whole network.
    """
    theta = look_ahead.parameters(heads=False)
    losses = look_ahead.losses(look_ahead.train_batch, theta)
    parameters = list(theta.values())
    if not parameters:
        return torch.zeros(len(losses), len(losses), device=losses.device)
    rows = torch.stack([_gradient(loss, parameters) for loss in losses])
    if dist.is_initialized():
        # averaged before the products are taken: a product of averages is not an average of products
        dist.all_reduce(rows)
        rows = rows / dist.get_world_size()
    return rows @ rows.mT


def _gradient(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """∂loss/∂θ in one row, (P,)."""
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])
