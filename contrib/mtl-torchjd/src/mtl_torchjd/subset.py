"""Parts of tensors that belong to some of the tasks, and torchjd's random draws.

Shape letters: K tasks, m of them in a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mtl_core.step import Step


def part(full: Tensor, rows: Tensor) -> Tensor:
    """The entries of some tasks: (K,) → (m,), (K, K) → (m, m); a scalar is everybody's."""
    if full.ndim == 2:
        return full[rows][:, rows]
    return full[rows] if full.ndim else full.clone()


def placed(full: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """``full`` with those entries replaced."""
    result, values = full.clone(), values.to(full.dtype)
    if full.ndim == 2:
        result[rows[:, None], rows] = values
    elif full.ndim:
        result[rows] = values
    else:
        result = values
    return result


@contextmanager
def seeded(step: Step | None) -> Iterator[None]:
    """torch's global CPU generator as the step asks, the same on every rank, put back afterwards."""
    if step is None:
        yield
        return
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(step.shared.initial_seed())
    try:
        yield
    finally:
        torch.default_generator.set_state(before)
