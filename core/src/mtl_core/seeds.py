"""Random state that is derived and not stored: a seed for every purpose, place and moment."""

from __future__ import annotations

from hashlib import blake2b

import torch
from torch import Tensor


def derive(seed: int, *names: object) -> int:
    """A seed in 0..2⁶³−1 for one purpose, such as ``derive(0, "step", 17, "rank", 1)``."""
    # a hash and not a sum: seed 1 at step 0 must have nothing in common with seed 0 at step 1
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator_for(seed: int, *names: object) -> torch.Generator:
    """A CPU generator for one purpose."""
    return torch.Generator().manual_seed(derive(seed, *names))


def generator_beside(values: Tensor, generator: torch.Generator) -> torch.Generator:
    """A generator where the values are, seeded by one number of a CPU generator: no noise has to be copied there.

    A tensor without memory, on the meta device or a fake one, has none: it gets the CPU's.
    """
    # int() below would ask the device for a value, which such a tensor does not have
    if values.is_meta or type(values) is not Tensor:
        return generator
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.Generator(values.device).manual_seed(seed)


def seed_torch(device: torch.device, seed: int, *names: object) -> None:
    """Seed torch's own generators of the CPU and of one device, which dropout draws from.

    Not by ``torch.manual_seed``, which writes a stack trace for each kind of accelerator that is not initialized: a
    millisecond in every step.
    """
    value = derive(seed, *names)
    torch.default_generator.manual_seed(value)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(value)
