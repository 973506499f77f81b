"""Half precision, where its range or its eight bits are not enough; infinity and NaN."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch._guards import detect_fake_mode


def at_least_float32(values: Tensor) -> Tensor:
    """The values as they are, or as float32 where they are in half precision: for losses, distances and products."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def is_finite(values: Tensor) -> Tensor:
    """As ``values.isfinite()``, by two kernels in place of the four that it launches: a small step waits for each."""
    return values.abs() < math.inf


def constant(value: float | bool, device: torch.device) -> Tensor:
    """A scalar that stays on a device: one that is made anew is a kernel more in every step.

    Beside a tensor of some size it does not change the result's type. Nobody may write into it.
    """
    # tensors of a FakeTensorMode (torch.export, shape checks) have no values, and mix with no others
    return _made(value, device) if detect_fake_mode() else _kept(value, device)


def _made(value: float | bool, device: torch.device) -> Tensor:
    # a tensor that is made in inference mode could not be used in training later
    with torch.inference_mode(False):
        return torch.full((), value, device=device)


_kept = functools.lru_cache(maxsize=64, typed=True)(_made)
