"""A look at the network one step ahead, as ``before_step`` and ``after_step`` are given it.

Shape letters: B samples of a rank, K tasks, P entries of the encoder's parameters together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from mtl_core.data.sample import Batch

Source = Literal["training", "validation"]
"""Where a second batch comes from."""

Parameters = dict[str, Tensor]
"""Parameters of the network by name, or something of the same shapes, such as their gradient."""


class LookAhead(Protocol):
    """The unwrapped network, two batches, the learning rate.

    Nothing that is asked of it changes parameters, their gradients, batch-norm statistics or the step that follows.
    Losses are those of the supervised tasks in the network's present mode, in the parameters' own precision, without
    regularizers; dropout draws the same masks every time.
    """

    @property
    def learning_rate(self) -> float:
        """η, of the main parameter group, as the schedule has it now."""
        ...

    @property
    def train_batch(self) -> Batch:
        """The step's batch, augmented as the step itself will do it: its view 0."""
        ...

    def second_batch(self, source: Source = "training") -> Batch:
        """B other samples, in an order of their own that (seed, step) fixes.

        :param source: training data, transformed and augmented, or the validation data, as they are
        :raises MtlError: there is no validation data
        """
        ...

    def parameters(self, heads: bool = True) -> Parameters:
        """The network's trained parameters, shared and heads', as leaves of their own.

        :param heads: False for the shared ones only
        """
        ...

    def losses(self, batch: Batch, parameters: Parameters | None = None) -> Tensor:
        """L_t of a batch, (K,): the global batch's, with this rank's gradients; 0 for a task without a label.

        :param batch: :attr:`train_batch` or :meth:`second_batch`
        :param parameters: in place of the network's own; those that are missing are its own
        """
        ...

    def active(self, batch: Batch) -> Tensor:
        """Which tasks have a label in the global batch, bool (K,)."""
        ...

    def gradient(self, total: Tensor, parameters: Parameters) -> Parameters:
        """Gradient of a scalar, the mean over the ranks as the step's own; 0 where it does not depend on a parameter.

        :param total: made of :meth:`losses` at these parameters
        """
        ...

    def stepped(self, parameters: Parameters, gradient: Mapping[str, Tensor]) -> Parameters:
        """Parameters after a virtual step: θ − η(g + weight decay·θ + momentum·velocity), new leaves.

        Adam's scaling is left out, its weight decay is not.
        """
        ...


def shared_gramian(look_ahead: LookAhead) -> Tensor:
    """Products of the tasks' gradients ahead of the step: ⟨∂L_i/∂θ, ∂L_j/∂θ⟩, θ the encoder's parameters.

    One forward pass and K backward passes of the whole network.

    :param look_ahead: whose batch, :attr:`LookAhead.train_batch`, gives the losses
    :return: (K, K), the same on every rank; 0 where the encoder is frozen
    """
    theta = look_ahead.parameters(heads=False)
    # at θ and not at the network itself: only what is passed in collects gradients
    losses = look_ahead.losses(look_ahead.train_batch, theta)
    parameters = list(theta.values())
    if not parameters:
        return torch.zeros(len(losses), len(losses), device=losses.device)
    rows = torch.stack([_row(loss, parameters) for loss in losses])
    if dist.is_initialized():
        # averaged before the products are taken: a product of averages is not an average of products
        # the default group will do: DDP sums nothing before or after a step
        dist.all_reduce(rows)
        rows = rows / dist.get_world_size()
    return rows @ rows.mT


def _row(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """∂loss/∂θ in one row, (P,)."""
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])
