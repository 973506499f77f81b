"""A network as one module from images to predictions, which exporters trace.

Shape letters: B samples, H and W image size.
"""

from __future__ import annotations

from torch import Tensor, nn

from mtl_core import TrainedNetwork


class Predictor(nn.Module):
    """Images float (B, 3, H, W) in 0..1 → one label for each task, in the tasks' order."""

    def __init__(self, trained: TrainedNetwork) -> None:
        super().__init__()
        self.network, self.tasks = trained.network, trained.tasks
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = self.network(images)
        return tuple(task.decode(found[task.name]) for task in self.tasks)
