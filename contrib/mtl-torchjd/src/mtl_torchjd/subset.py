"""Parts of tensors that belong to some of the tasks, and torchjd's random draws.

Shape letters: K tasks, m of them in a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mtl_core import Step


def part(full: Tensor, rows: Tensor) -> Tensor:
    """The entries of some tasks: (K,) → (m,), (K, K) → (m, m); a scalar belongs to all of them."""
    if full.ndim == 2:
        return full[rows][:, rows]
    return full[rows] if full.ndim else full.clone()


def placed(full: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """``full`` with those entries replaced."""
    result = full.clone()
    values = values.to(full.dtype)
    if full.ndim == 2:
        result[rows[:, None], rows] = values
    elif full.ndim:
        result[rows] = values
    else:
        result = values
    return result


@contextmanager
def seeded(step: Step | None) -> Iterator[None]:
    """Seed torch's own generators, of the CPU and of the step's device, by the step; put them back afterwards.

    torchjd draws from them. The seed is the same on every rank.
    """
    if step is None:
        yield
        return
    device = step.images.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(step.shared.initial_seed())
        if device.type == "cuda":
            torch.cuda.manual_seed(step.shared.initial_seed())
        yield
