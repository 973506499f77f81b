"""An exponential moving average of the network's weights; a run that has one evaluates it."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from mtl_core.training.network import Network

_Tensors = tuple[Tensor, ...] | list[Tensor]


class Average:
    """The average of a network's weights and statistics over the steps of a run.

    θ̄ ← d θ̄ + (1 − d) θ after every optimizer step, with d = min(``decay``, (1 + n) / (10 + n)) after n steps, so that a
    short run is not held back by its first weights (as TensorFlow's ``ExponentialMovingAverage(num_updates=…)``). The
    average begins with the first weights; whole numbers among the buffers are copied; a skipped step changes nothing.

    :param network: on its device
    :param decay: d in the long run
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.source = network
        self._skipped = torch.zeros((), device=next(network.parameters()).device)
        # its count of updates stays on the CPU, where asking for it waits for nothing
        self.model = AveragedModel(network, multi_avg_fn=self._mix, use_buffers=True)
        self.model.n_averaged += 1  # the average begins with the first weights
        self.model.requires_grad_(False)

    @property
    def network(self) -> Network:
        return cast("Network", self.model.module)

    def update(self, skipped: Tensor) -> None:
        """A step is done.

        :param skipped: 1 where it changed nothing: then the average stays too
        """
        self._skipped = skipped
        self.model.update_parameters(self.source)
        self.steps += 1

    @torch.no_grad()
    def _mix(self, averages: _Tensors, values: _Tensors, count: Tensor | int) -> None:
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        share = (1 - decay) * (1 - self._skipped)
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, share.to(average.dtype))
            else:
                average.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.steps = state["steps"]
