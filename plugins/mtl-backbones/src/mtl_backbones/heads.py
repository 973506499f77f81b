"""The head of a task that has one value per image.

Shape letters: B samples, C channels of the features, O channels of the task, h and w size of the features.
"""

from __future__ import annotations

from torch import Tensor, nn


class PooledHead(nn.Module):
    """Global average pooling and a linear layer.

    :param channels: C of z, or of its last level
    :param out: O
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, out)

    def forward(self, z: Tensor | tuple[Tensor, ...]) -> Tensor:
        """(B, C, h, w), or levels of which the last is used → (B, O)."""
        values: Tensor = self.linear(_pooled(z if isinstance(z, Tensor) else z[-1]))
        return values


def _pooled(features: Tensor) -> Tensor:
    """The mean over the image, (B, C, h, w) → (B, C); what is one pixel already costs nothing."""
    return features.flatten(1) if features.shape[-2:] == (1, 1) else features.mean((-2, -1))
