"""An exponential moving average of a run's network, for regularizers that compare with it.

Shape letters: N images, K tasks, O_t channels of task t, H and W image size.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn


class AveragedNetwork(nn.Module):
    """θ̄ ← α θ̄ + (1 − α) θ with α = min(``decay``, 1 − 1 / (n + 1)) at update n = 0, 1, …

    The rule of Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017: a plain mean of the first
    weights, then an exponential one. All of it is buffers: no optimizer trains it, a checkpoint has it, and core puts
    it back where a step is skipped.

    Its predictions are made in the mode of the network, part by part: in training, batch norm uses the statistics of
    the images that it is given.

    :param backbone: of the run; it is copied
    :param heads: of the run
    :param decay: α in the long run
    """

    def __init__(self, backbone: nn.Module, heads: nn.ModuleDict, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.backbone = _without_parameters(backbone)
        self.heads = cast("nn.ModuleDict", _without_parameters(heads))
        self.count: Tensor
        self.register_buffer("count", torch.zeros(()))
        # a tuple registers nothing: the network belongs to the run
        self._source = (backbone, heads)

    def _pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """(average, network) for every part."""
        own = [*self.backbone.modules(), *self.heads.modules()]
        return list(zip(own, [m for part in self._source for m in part.modules()], strict=True))

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network's present weights; to be called in the hook ``before_step``."""
        # on the device: the count is a buffer, and asking for it would wait
        share = (1 / (self.count + 1)).clamp(min=1 - self.decay)
        for mine, theirs in self._pairs():
            for name, weight in theirs.named_parameters(recurse=False):
                average = mine.get_buffer(name)
                average.lerp_(weight.detach(), share.to(average.dtype))
        self.count += 1

    @torch.no_grad()
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W), float → task → (N, O_t, H, W), or (N, O_t), as its head gives it; without gradients."""
        for mine, theirs in self._pairs():
            mine.training = theirs.training
        z = self.backbone(images)
        return {name: head(z) for name, head in self.heads.items()}


def _without_parameters(module: nn.Module) -> nn.Module:
    """A copy in which buffers stand in the place of parameters."""
    made = copy.deepcopy(module)
    for part in made.modules():
        for name, weight in list(part._parameters.items()):
            if weight is not None:
                del part._parameters[name]
                part.register_buffer(name, weight.detach().clone())
    return made
