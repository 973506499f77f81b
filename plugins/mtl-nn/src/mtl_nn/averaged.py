"""An exponential moving average of a run's network, for regularizers that compare with it.

Shape letters: N images, K tasks, O_t channels of task t, H and W image size.
"""

from __future__ import annotations

import copy

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
        # copied together: heads may use parts of the encoder
        self.backbone, self.heads = copy.deepcopy((backbone, heads))
        for part in self.modules():
            _make_buffers(part)
        self.count: Tensor
        self.register_buffer("count", torch.zeros(()))
        # a tuple registers nothing: the network belongs to the run
        self._source = (backbone, heads)

    def _pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """(average, network) for every part."""
        # both lists begin with the module that holds the two, and name a part that both use once
        theirs = nn.ModuleList(self._source).modules()
        return list(zip(self.modules(), theirs, strict=True))[1:]

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


def _make_buffers(part: nn.Module) -> None:
    """Put buffers in the place of the parameters that this part itself holds."""
    for name, weight in list(part.named_parameters(recurse=False)):
        delattr(part, name)
        part.register_buffer(name, weight.detach().clone())
