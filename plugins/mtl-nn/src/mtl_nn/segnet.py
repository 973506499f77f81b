"""SegNet, as the MTAN line of multi-task work uses it, and its two halves.

Shape letters: B samples, C channels, O channels of an output, H and W image size; w is ``width``.
Source: Badrinarayanan et al., SegNet, TPAMI 2017; layers as in Liu et al., End-to-End Multi-Task Learning with
Attention, CVPR 2019, and Li et al., Learning Multiple Dense Prediction Tasks from Partially Annotated Data, CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import gcd
from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from mtl_nn.recomputing import run_recomputing

Norm = Literal["batch", "group", "instance"]
Unpool = Literal["indices", "upsample"]

Modulate = Callable[[int, Tensor], Tensor]
"""Number of a convolution and what it, or the norm behind it, gives → what goes on instead."""

_EXTRA = (1, 1, 2, 2, 2)
"""Further convolutions of each level, after the one that changes the number of channels."""
SMALLEST = 2 ** len(_EXTRA)
"""Pixels below which the last pooling leaves nothing."""


class Pooled(NamedTuple):
    """What a pooling leaves for its unpooling.

    :param size: (H, W) before pooling, so that odd sizes come back
    :param indices: (B, C, H // 2, W // 2) positions of the maxima; None where the decoder does not use them
    """

    size: tuple[int, int]
    indices: Tensor | None


class Latent(NamedTuple):
    """What the encoder half gives.

    :param features: (B, bottleneck, H // 32, W // 32), after the last pooling
    :param pooled: one entry per level, finest first
    """

    features: Tensor
    pooled: tuple[Pooled, ...]


def _filters(width: int, bottleneck: int | None = None) -> tuple[int, ...]:
    """Channels of the five levels: (64, 128, 256, 512, 512) · w / 64; ``bottleneck`` replaces the last."""
    return (width, 2 * width, 4 * width, 8 * width, bottleneck or 8 * width)


def normalisation(norm: Norm, channels: int) -> nn.Module:
    """Batch norm, instance norm, or group norm: up to 32 groups of at least four channels that divide evenly."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    return nn.GroupNorm(max(1, gcd(channels, 128) // 4), channels)


def level(entry: int, channels: int, extra: int, norm: Norm) -> nn.Sequential:
    """conv3×3 + norm + ReLU, ``extra`` + 1 times."""
    layers: list[nn.Module] = []
    for source in (entry, *[channels] * extra):
        conv = nn.Conv2d(source, channels, 3, padding=1)
        layers += [conv, normalisation(norm, channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def initialise(module: nn.Module) -> None:
    """Xavier-normal weights and zero biases; norms begin as the identity."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Encoder(nn.Module):
    """The encoder half: five levels, each ended by a 2 × 2 max-pooling.

    :param in_channels: C of the input
    :param width: channels of the first level
    :param bottleneck: channels of the last level; 8 · width if None
    :param indices: keep the positions of the maxima for a decoder that unpools with them
    """

    def __init__(
        self,
        in_channels: int,
        width: int = 64,
        bottleneck: int | None = None,
        norm: Norm = "batch",
        indices: bool = False,
    ) -> None:
        super().__init__()
        sizes = _filters(width, bottleneck)
        self.width = width
        self.channels = sizes[-1]
        self.indices = indices
        entries = (in_channels, *sizes[:-1])
        self.levels = nn.ModuleList(
            level(entry, c, extra, norm) for entry, c, extra in zip(entries, sizes, _EXTRA, strict=True)
        )
        self.apply(initialise)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Channels that each convolution gives, in order."""
        return tuple(m.out_channels for m in self.levels.modules() if isinstance(m, nn.Conv2d))

    def forward(self, x: Tensor, after_conv: Modulate | None = None, after_norm: Modulate | None = None) -> Latent:
        """(B, C, H, W) with H, W ≥ 32 → :class:`Latent`.

        :param after_conv: applied to what every convolution gives, such as a scale and a shift per sample
        :param after_norm: the same behind every norm, before the ReLU
        """
        pooled = []
        first = 0
        for block, extra in zip(self.levels, _EXTRA, strict=True):
            plain = after_conv is None and after_norm is None
            x = block(x) if plain else _modulated(block, x, first, after_conv, after_norm)
            first += 1 + extra
            x, left = self._pool(x)
            pooled.append(left)
        return Latent(x, tuple(pooled))

    def run_level(self, number: int, x: Tensor) -> tuple[Tensor, Pooled]:
        """One of the five levels, and its pooling; norms and ReLUs are computed again in the backward pass."""
        made: tuple[Tensor, Pooled] = run_recomputing(self.levels[number], x, after=self._pool)
        return made

    def _pool(self, x: Tensor) -> tuple[Tensor, Pooled]:
        size = (x.shape[-2], x.shape[-1])
        if not self.indices:
            return F.max_pool2d(x, 2), Pooled(size, None)
        values, indices = F.max_pool2d(x, 2, return_indices=True)
        return values, Pooled(size, indices)


def _modulated(
    block: nn.Module, x: Tensor, first: int, after_conv: Modulate | None, after_norm: Modulate | None
) -> Tensor:
    """What a :func:`level` gives, with something else done between its layers; ``first`` numbers its convolutions."""
    for position, layer in enumerate(block.children()):
        x = layer(x)
        modulate = (after_conv, after_norm, None)[position % 3]
        x = x if modulate is None else modulate(first + position // 3, x)
    return x


class Decoder(nn.Module):
    """The decoder half: the encoder mirrored; ends at full resolution with w channels.

    :param width: channels of the output
    :param bottleneck: channels of the latent features; 8 · width if None

    With ``checkpoint`` set to true, unpoolings, norms and ReLUs are computed again in the backward pass: half of the
    activations, the same values and gradients.
    """

    checkpoint = False

    def __init__(self, width: int = 64, bottleneck: int | None = None, norm: Norm = "batch") -> None:
        super().__init__()
        sizes = _filters(width, bottleneck)
        self.channels = width
        exits = (width, *sizes[:-1])
        self.levels = nn.ModuleList(
            level(c, leave, extra, norm) for c, leave, extra in zip(sizes, exits, _EXTRA, strict=True)
        )
        self.apply(initialise)

    def forward(self, latent: Latent) -> Tensor:
        """:class:`Latent` → (B, w, H, W)."""
        x = latent.features
        for block, pooled in zip(reversed(self.levels), reversed(latent.pooled), strict=True):
            enlarge = partial(unpool, pooled=pooled)
            x = run_recomputing(block, x, enlarge) if self.checkpoint else block(enlarge(x))
        return x


def unpool(x: Tensor, pooled: Pooled) -> Tensor:
    """Undo one pooling: values return to the maxima's places, or are repeated where those were not kept."""
    if pooled.indices is None:
        return F.interpolate(x, pooled.size, mode="nearest")
    return F.max_unpool2d(x, pooled.indices, (2, 2), output_size=list(pooled.size))


class SegNet(nn.Module):
    """The shared trunk: images (B, C, H, W) → z (B, w, H, W) at full resolution; H and W may be any size from 32.

    :param in_channels: C
    :param width: w, 64 in the papers
    :param norm: ``"batch"``; ``"group"`` makes samples independent of their batch
    """

    def __init__(self, in_channels: int = 3, width: int = 64, norm: Norm = "batch") -> None:
        super().__init__()
        self.encoder = Encoder(in_channels, width, norm=norm, indices=True)
        self.decoder = Decoder(width, norm=norm)
        self.channels = width
        self.width = width
        self.norm = norm

    def forward(self, images: Tensor) -> Tensor:
        return self.with_deepest(images)[0]

    def with_deepest(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """z, and the features (B, 8 · w, H // 32, W // 32) between the two halves."""
        latent = self.encoder(images)
        z: Tensor = self.decoder(latent)
        return z, latent.features


class SegNetHead(nn.Sequential):
    """One task's decoder: conv3×3(C→C) + conv1×1(C→O), (B, C, H, W) → (B, O, H, W)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, out, 1))
        self.apply(initialise)
