"""Label masks drawn with equal shares.

Shape letters: N samples, K tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor


def full(size: int, tasks: int) -> Tensor:
    """Every label of every sample: bool (N, K)."""
    return torch.ones(size, tasks, dtype=torch.bool)


def _equal_shares(size: int, values: Tensor, generator: torch.Generator) -> Tensor:
    """N draws of V values, each drawn N/V times (± 1), in random order: (N,)."""
    order = torch.randperm(len(values), generator=generator)
    repeated = values[order].repeat(-(-size // max(len(values), 1)))[:size]
    return repeated[torch.randperm(size, generator=generator)]


def _with_counts(counts: Tensor, tasks: int, generator: torch.Generator) -> Tensor:
    """A mask with ``counts`` (N,) labels per sample, as equally shared between the tasks as these allow: bool (N, K).

    The labels are dealt like cards: a run through all tasks in random order, then the next run; a sample takes its
    cards from two runs at most and never the same task twice.
    """
    mask = torch.zeros(len(counts), tasks, dtype=torch.bool)
    deck: list[int] = []
    for sample, count in enumerate(counts.tolist()):
        hand: list[int] = deck[:count]
        deck = deck[count:]
        if len(hand) < count:
            fresh = torch.randperm(tasks, generator=generator).tolist()
            missing = [task for task in fresh if task not in hand][: count - len(hand)]
            deck = [task for task in fresh if task not in missing]
            hand += missing
        mask[sample, hand] = True
    return mask


def one_label(size: int, tasks: int, generator: torch.Generator) -> Tensor:
    """Exactly one label per sample."""
    picked = _equal_shares(size, torch.arange(tasks), generator)
    return torch.nn.functional.one_hot(picked, tasks).bool()


def random_labels(size: int, tasks: int, generator: torch.Generator) -> Tensor:
    """Between 1 and K − 1 labels per sample, each number equally often."""
    return _with_counts(_equal_shares(size, torch.arange(1, tasks), generator), tasks, generator)


def half_labels(size: int, tasks: int, generator: torch.Generator) -> Tensor:
    """⌊K/2⌋ or ⌈K/2⌉ labels per sample, equally often: 3 or 4 of 7."""
    halves = torch.tensor(sorted({tasks // 2, -(-tasks // 2)}))
    return _with_counts(_equal_shares(size, halves, generator), tasks, generator)
