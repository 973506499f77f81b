"""Distances in a pair's joint space.

Shape letters: N embeddings, C channels, h and w their size.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from mtl_core.step import Step


def cosine(a: Tensor, b: Tensor, per_location: bool) -> Tensor:
    """1 − a·b / (|a| |b|) of embeddings (N, C, h, w) → (N,).

    :param per_location: over the C channels, then the mean over the locations; else over all C·h·w entries
    """
    if per_location:
        return 1 - F.cosine_similarity(a, b, dim=1).flatten(1).mean(1)
    return 1 - F.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)


def spread(embeddings: Tensor) -> Tensor:
    """Mean cosine between different embeddings (N, C, h, w): 1 where they all point the same way."""
    unit = F.normalize(embeddings.flatten(1), dim=1)
    number = len(unit)
    return (unit.sum(0).square().sum() - unit.square().sum()) / max(number * (number - 1), 1)


def anchor(step: Step, view: int, like: Tensor) -> Tensor:
    """⟨backbone features⟩ of a view, in the shape (·, C, h, w) of an embedding: (B, C, h, w).

    The encoder's deepest features, pooled adaptively over places and channels where the shapes differ; too few
    channels are repeated.
    """
    features = deepest(step).detach()
    own = features.view(len(step.images), -1, *features.shape[1:])[view]
    if own.shape[1:] != like.shape[1:]:
        c, h, w = like.shape[1:]
        own = F.adaptive_avg_pool3d(own.unsqueeze(1), (c, h, w)).squeeze(1)
    return own.to(like.dtype)


def deepest(step: Step) -> Tensor:
    """The step's, or the last level of z where it says nothing."""
    if step.deepest is not None:
        return step.deepest
    return step.features if isinstance(step.features, Tensor) else step.features[-1]
