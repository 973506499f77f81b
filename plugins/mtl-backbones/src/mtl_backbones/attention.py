"""MTAN: SegNet as a shared trunk, and attention modules that choose each task's features from it.

Shape letters: B samples, C channels of an input, O channels of a task, H and W image size; w is ``width``. The five
levels are numbered from the finest on; s_n are the channels of level n, e_n those that its decoder's block gives.
Source: Liu et al., End-to-End Multi-Task Learning with Attention, CVPR 2019, Eq. 1 to 3; layers of the authors' code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_backbones.heads import PooledHead
from mtl_nn import Autoencoder, Norm, Pooled, SegNet, SegNetHead, initialise, level, normalisation, unpool

_LEVELS = 5
_FIRST = 3
"""Layers of the first convolution of a block: convolution, norm, ReLU."""

_Levels = tuple[Tensor, ...]


def _entering(width: int) -> tuple[int, ...]:
    """s: channels of the five levels."""
    return (width, 2 * width, 4 * width, 8 * width, 8 * width)


def _leaving(width: int) -> tuple[int, ...]:
    """e: channels that the decoder's block of each level gives."""
    return (width, *_entering(width)[:-1])


class Trunk(nn.Module):
    """The shared network, and the convolutions between attention modules.

    z has two tensors of each of its ten blocks, in the order in which the blocks are run. Of an encoder's block: what
    its first convolution gives (u in the paper) and what its last one gives (p). Of a decoder's block: the unpooled
    input and what the block gives.

    :param in_channels: C
    :param width: w, 64 in the paper
    :param norm: ``"batch"``; ``"group"`` makes samples independent of their batch
    """

    def __init__(self, in_channels: int, width: int, norm: Norm) -> None:
        super().__init__()
        self.width = width
        self.norm = norm
        self.segnet = SegNet(in_channels, width, norm)
        sizes = _entering(width)
        ends = _leaving(width)
        down = [size for size in sizes for _ in range(2)]
        up = [size for pair in zip(reversed(sizes), reversed(ends), strict=True) for size in pair]
        self.channels = (*down, *up)
        # f of Eq. 1 and 2. Every task's head runs these, so they are made and trained once, here.
        deeper = (*sizes[1:], sizes[-1])
        self.on_the_way_down = nn.ModuleList(level(a, b, 0, norm) for a, b in zip(sizes, deeper, strict=True))
        self.on_the_way_up = nn.ModuleList(level(a, b, 0, norm) for a, b in zip(sizes, ends, strict=True))
        self.apply(initialise)

    def forward(self, images: Tensor) -> _Levels:
        return self.with_deepest(images)[0]

    def with_deepest(self, images: Tensor) -> tuple[_Levels, Tensor]:
        """z of (B, C, H, W), and the features between the two halves, (B, 8w, H // 32, W // 32)."""
        z: list[Tensor] = []
        kept: list[Pooled] = []
        x = images
        for block in self.segnet.encoder.levels:
            first, last = _halves(block, x)
            z += [first, last]
            x, indices = F.max_pool2d(last, 2, return_indices=True)
            kept.append(Pooled(_size_of(last), indices))
        deepest = x
        for block, pooled in zip(reversed(self.segnet.decoder.levels), reversed(kept), strict=True):
            opened = unpool(x, pooled)
            x = block(opened)
            z += [opened, x]
        return tuple(z), deepest

    def autoencoder(self, in_channels: int, out_channels: int, bottleneck: int | None = None) -> Autoencoder:
        """A SegNet of this width with a latent in the middle, for regularizers."""
        return Autoencoder(in_channels, out_channels, self.width, bottleneck, norm=self.norm)


def _halves(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What the first convolution of a block gives, and what all of them give."""
    layers = list(block.children())
    for layer in layers[:_FIRST]:
        x = layer(x)
    first = x
    for layer in layers[_FIRST:]:
        x = layer(x)
    return first, x


def _size_of(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]


def _attention(entry: int, channels: int, norm: Norm) -> nn.Sequential:
    """g, h and the sigmoid of Eq. 1: a mask in 0..1 with as many channels as the features that it is laid on."""
    return nn.Sequential(
        nn.Conv2d(entry, channels, 1),
        normalisation(norm, channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 1),
        normalisation(norm, channels),
        nn.Sigmoid(),
    )


class AttentionHead(nn.Module):
    """One task's attention modules, ten masks on the trunk's features, and what predicts from the last masked ones.

    :param trunk: whose convolutions between two modules it runs; they stay the trunk's own
    :param out: O
    :param dense: a value per pixel (B, O, H, W), by SegNet's head; otherwise one per image (B, O)
    """

    def __init__(self, trunk: Trunk, out: int, dense: bool) -> None:
        super().__init__()
        width = trunk.width
        norm = trunk.norm
        sizes = _entering(width)
        ends = _leaving(width)
        # in a tuple, so that torch does not count the trunk's modules as this head's
        self._shared = (trunk.on_the_way_down, trunk.on_the_way_up)
        entries = (width, *(2 * size for size in sizes[1:]))
        self.down = nn.ModuleList(_attention(a, b, norm) for a, b in zip(entries, sizes, strict=True))
        self.up = nn.ModuleList(_attention(a + b, b, norm) for a, b in zip(sizes, ends, strict=True))
        self.down.apply(initialise)
        self.up.apply(initialise)
        self.predict = SegNetHead(width, out) if dense else PooledHead(width, out)

    def forward(self, z: _Levels) -> Tensor:
        """The trunk's levels → (B, O, H, W) or (B, O)."""
        prediction: Tensor = self.predict(self._decoded(self._encoded(z), z))
        return prediction

    def _encoded(self, z: _Levels) -> Tensor:
        """Eq. 1 and 2: a mask from u and the features so far, laid on p; the result goes on at half the size."""
        down, _ = self._shared
        x: Tensor | None = None
        for n in range(_LEVELS):
            first = z[2 * n]
            last = z[2 * n + 1]
            mask = self.down[n](first if x is None else torch.cat((first, x), dim=1))
            x = F.max_pool2d(down[n](mask * last), 2)
        assert x is not None
        return x

    def _decoded(self, x: Tensor, z: _Levels) -> Tensor:
        """The same on the way up: features are enlarged first, and the mask is laid on what the block gives."""
        _, up = self._shared
        for place, n in enumerate(reversed(range(_LEVELS)), start=_LEVELS):
            opened = z[2 * place]
            last = z[2 * place + 1]
            x = up[n](F.interpolate(x, _size_of(opened), mode="bilinear", align_corners=True))
            x = self.up[n](torch.cat((opened, x), dim=1)) * last
        return x
