"""Cross-stitch units, and one SegNet per task that they join.

Shape letters: B samples, K tasks, C channels, H and W image size; w is ``width``.
Source: Misra et al., Cross-Stitch Networks for Multi-Task Learning, CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_core import MtlError
from mtl_nn import Autoencoder, Norm, Pooled, SegNet, unpool

_LEVELS = 5


class _CrossStitchUnit(nn.Module):
    """x̃_i = Σ_j α_ij x_j: each task's features become a combination of all tasks' features.

    :param tasks: K
    :param channels: C; None for one α for all channels
    :param same: α_ii at first; α_ij = (1 − same)/(K − 1), so that rows sum to 1 (α = 1 for one task)
    """

    def __init__(self, tasks: int, channels: int | None, same: float) -> None:
        super().__init__()
        other = (1 - same) / max(1, tasks - 1)
        matrix = torch.full((tasks, tasks), other).fill_diagonal_(same if tasks > 1 else 1.0)
        self.alpha = nn.Parameter(matrix[..., None, None, None].repeat(1, 1, channels or 1, 1, 1))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """K tensors (B, C, h, w) → as many of that shape."""
        return [_combined(row, features) for row in self.alpha]


def _combined(row: Tensor, features: Sequence[Tensor]) -> Tensor:
    """Σ_j α_j x_j of α (K, C, 1, 1)."""
    total = row[0] * features[0]
    for alpha, x in zip(row[1:], features[1:], strict=True):
        total = torch.addcmul(total, alpha, x)
    return total


class Stitched(nn.Module):
    """K SegNets, joined behind every pooling and every block of the decoder but the last.

    z has one tensor per task, (B, w, H, W) each. How many tasks there are is known when the heads are made:
    :meth:`grow` makes the networks then.

    :param in_channels: C
    :param width: w of each SegNet
    :param same: α_ii of every unit at first
    :param per_channel: a unit has an α for each channel
    """

    def __init__(self, in_channels: int, width: int, norm: Norm, same: float, per_channel: bool) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.width = width
        self.norm = norm
        self.same = same
        self.per_channel = per_channel
        self.networks = nn.ModuleList()
        self.units = nn.ModuleList()

    @property
    def channels(self) -> tuple[int, ...]:
        return (self.width,) * len(self.networks)

    def grow(self, tasks: int) -> None:
        """Make the networks of K tasks and the units between them."""
        w = self.width
        self.networks = nn.ModuleList(SegNet(self.in_channels, w, self.norm) for _ in range(tasks))
        pooled = (w, 2 * w, 4 * w, 8 * w, 8 * w)
        between = (8 * w, 4 * w, 2 * w, w)
        sizes = [size if self.per_channel else None for size in (*pooled, *between)]
        self.units = nn.ModuleList(_CrossStitchUnit(tasks, size, self.same) for size in sizes)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.with_deepest(images)[0]

    def with_deepest(self, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """z of (B, C, H, W), and all tasks' latents beside each other, (B, K · 8w, H // 32, W // 32)."""
        if not len(self.networks):
            raise MtlError("cross-stitch: there is a network per task; build_heads, which knows the tasks, comes first")
        networks = [network for network in self.networks if isinstance(network, SegNet)]
        x = [images] * len(networks)
        pooled: list[list[Pooled]] = []
        for n in range(_LEVELS):
            x, places = _pool(_each([network.encoder.levels[n] for network in networks], x))
            pooled.append(places)
            x = self.units[n](x)
        deepest = torch.cat(x, dim=1)
        for n in reversed(range(_LEVELS)):
            opened = [unpool(one, place) for one, place in zip(x, pooled[n], strict=True)]
            x = _each([network.decoder.levels[n] for network in networks], opened)
            if n > 0:
                x = self.units[2 * _LEVELS - 1 - n](x)
        return tuple(x), deepest

    def autoencoder(self, in_channels: int, out_channels: int, bottleneck: int | None = None) -> Autoencoder:
        """A SegNet of this width with a latent in the middle, for regularizers."""
        return Autoencoder(in_channels, out_channels, self.width, bottleneck, norm=self.norm)


def _each(blocks: Sequence[nn.Module], features: Sequence[Tensor]) -> list[Tensor]:
    """Each task's features through its own block."""
    return [block(x) for block, x in zip(blocks, features, strict=True)]


def _pool(features: Sequence[Tensor]) -> tuple[list[Tensor], list[Pooled]]:
    """Each task's features at half the size, and where their maxima were."""
    halved = []
    places = []
    for x in features:
        y, indices = F.max_pool2d(x, 2, return_indices=True)
        halved.append(y)
        places.append(Pooled((x.shape[-2], x.shape[-1]), indices))
    return halved, places


class OwnLevel(nn.Module):
    """A head that reads the one tensor of z that is its task's.

    :param position: of the task
    :param head: from (B, w, H, W) to the task's prediction
    """

    def __init__(self, position: int, head: nn.Module) -> None:
        super().__init__()
        self.position = position
        self.head = head

    def forward(self, z: tuple[Tensor, ...]) -> Tensor:
        prediction: Tensor = self.head(z[self.position])
        return prediction
