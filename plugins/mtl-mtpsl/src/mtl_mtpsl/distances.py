"""Distances in a pair's joint space.

Shape letters: N embeddings, S places for pairs, B samples, C channels, h and w their size.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from mtl_core import Step
from mtl_mtpsl.pairs import Places


def cosine(a: Tensor, b: Tensor, per_location: bool) -> Tensor:
    """1 − a·b / (|a| |b|) of embeddings (N, C, h, w) → (N,).

    :param per_location: over the C channels, then the mean over the locations; else over all C·h·w entries
    """
    if per_location:
        return 1 - F.cosine_similarity(a, b, dim=1).flatten(1).mean(1)
    return 1 - F.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)


def spread(embeddings: Tensor, places: Places, samples: int) -> Tensor:
    """Mean cosine between embeddings (S, C, h, w) of different samples: 1 where they all point the same way.

    Places that are not used do not count.
    """
    unit = F.normalize(embeddings.flatten(1), dim=1) * places.used[:, None]
    per_sample = unit.new_zeros(samples, unit.shape[1]).index_add(0, places.sample, unit)
    number = unit.new_zeros(samples).index_add(0, places.sample, places.used.to(unit.dtype))
    # all pairs of places but those of one sample
    total, pairs = (x.sum(0).square().sum() - x.square().sum() for x in (per_sample, number))
    return total / pairs.clamp(min=1)


def anchor(step: Step, view: int, like: Tensor) -> Tensor:
    """⟨backbone features⟩ of a view, in the shape (·, C, h, w) of an embedding: (B, C, h, w).

    The encoder's deepest features, pooled adaptively over places and channels where the shapes differ; too few
    channels are repeated.
    """
    features = _deepest(step).detach()
    own = features.view(len(step.images), -1, *features.shape[1:])[view]
    if own.shape[1:] != like.shape[1:]:
        c, h, w = like.shape[1:]
        own = F.adaptive_avg_pool3d(own.unsqueeze(1), (c, h, w)).squeeze(1)
    return own.to(like.dtype)


def _deepest(step: Step) -> Tensor:
    """The encoder's coarsest features, or the last level of z where the step does not have them."""
    if step.deepest is not None:
        return step.deepest
    return step.features if isinstance(step.features, Tensor) else step.features[-1]
