"""Half precision, where its range or its eight bits are not enough."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """The values as they are, or as float32 where they are in half precision: for losses, distances and products."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
