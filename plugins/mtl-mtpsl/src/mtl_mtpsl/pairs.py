"""Which ordered pairs of tasks (s → t) are compared on which sample, in a number of places that depends on no value.

Shape letters: B samples, K tasks, R = K·(K − 1) ordered pairs, S places.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Places(NamedTuple):
    """S places for (sample, pair); ``used`` (S,) says which of them count, the others repeat them.

    :param sample: (S,) positions in the batch
    :param pair: (S,) positions among the R pairs
    """

    sample: Tensor
    pair: Tensor
    used: Tensor


def ordered_pairs(tasks: int) -> tuple[Tensor, Tensor]:
    """s and t of every ordered pair, each long (R,)."""
    s, t = torch.meshgrid(torch.arange(tasks), torch.arange(tasks), indexing="ij")
    different = s != t
    return s[different], t[different]


def most_pairs(tasks: int, labelled: Tensor | None) -> int:
    """The largest number of pairs |U|·|T| that a sample can have, at least 1.

    :param labelled: bool (N, K) of the training samples; None where it is not known
    """
    counts = torch.arange(tasks + 1) if labelled is None else labelled.sum(1)
    pairs = counts * (tasks - counts)
    return max(1, int(pairs.max()))


def most_labels(tasks: int, labelled: Tensor | None) -> int:
    """The largest number of labels |T| of a sample that lacks one, at least 1.

    :param labelled: bool (N, K) of the training samples; None where it is not known
    """
    counts = torch.arange(tasks) if labelled is None else labelled.sum(1)
    return max(1, int(torch.where(counts < tasks, counts, torch.zeros_like(counts)).max()))


def placed(labelled: Tensor, source: Tensor, target: Tensor, places: int) -> Places:
    """Every pair of an unlabelled s and a labelled t, in the first of S places.

    The places that are left over repeat the batch's pairs, so that batch statistics see nothing else. A batch without
    any pair has one that does not count.

    :param labelled: bool (B, K)
    """
    wanted = (~labelled[:, source] & labelled[:, target]).flatten()
    order = wanted.to(torch.uint8).argsort(descending=True, stable=True)
    number = wanted.sum()
    place = torch.arange(places, device=labelled.device)
    chosen = order[place % number.clamp(min=1)]
    return Places(chosen // len(source), chosen % len(source), place < number)
