"""Distances in the joint-task space, per sample.

Shape letters: B samples, C channels of the latent, h and w its size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Kind = Literal["cosine", "l1", "l2"]


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """1 − a·b / (|a| |b|) over the last dimension."""
    return 1 - F.cosine_similarity(a, b, dim=-1)


def _l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference over the last dimension."""
    return (a - b).abs().mean(-1)


def _l2(a: Tensor, b: Tensor) -> Tensor:
    """Mean square difference over the last dimension."""
    return (a - b).square().mean(-1)


_DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cosine": _cosine, "l1": _l1, "l2": _l2}


def distance(a: Tensor, b: Tensor, kind: Kind = "cosine", per_location: bool = False, centred: bool = False) -> Tensor:
    """L_Dist of two latents (B, C, h, w) → (B,).

    :param per_location: the mean over the locations of distances over the C channels, instead of one over C·h·w
    :param centred: subtract from both the batch's mean of ``b`` first
    """
    if centred:
        mean = b.detach().mean(0, keepdim=True)
        a = a - mean
        b = b - mean
    if per_location:
        return _DISTANCES[kind](a.flatten(2).mT, b.flatten(2).mT).mean(1)
    return _DISTANCES[kind](a.flatten(1), b.flatten(1))


def spread(latents: Tensor) -> Tensor:
    """Mean cosine between the latents (B, C, h, w) of different samples: 1 where they all point the same way."""
    unit = F.normalize(latents.flatten(1), dim=1)
    size = len(unit)
    return (unit.sum(0).square().sum() - unit.square().sum()) / torch.tensor(max(size * (size - 1), 1))
