"""Random state that is derived and not stored: a seed for every purpose, place and moment."""

from __future__ import annotations

from hashlib import blake2b

import torch


def derive(seed: int, *names: object) -> int:
    """A seed in 0..2⁶³−1 for one purpose, such as ``derive(0, "step", 17, "rank", 1)``."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator_for(seed: int, *names: object) -> torch.Generator:
    """A CPU generator for one purpose."""
    return torch.Generator().manual_seed(derive(seed, *names))
