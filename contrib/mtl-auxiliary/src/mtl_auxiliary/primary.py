"""The primary task, or tasks, and how the other branches stand to them.

Shape letters: K tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtl_core import Tasks


def primary_mask(plugin: str, primary: str | tuple[str, ...], tasks: Tasks) -> Tensor:
    """Which tasks are primary, bool (K,).

    :param plugin: its name in the experiment, for messages
    :raises MtlError: a name is no task of the data set
    """
    names = (primary,) if isinstance(primary, str) else primary
    tasks.choose(names, f"{plugin}.primary")
    return torch.tensor([name in names for name in tasks.names])


def against_primary(gramian: Tensor, primary: Tensor) -> tuple[Tensor, Tensor]:
    """⟨b_t, b_pri⟩ and cos(b_t, b_pri) with b_pri = Σ_{p primary} b_p.

    :param gramian: (K, K)
    :param primary: bool (K,)
    :return: both (K,); the cosine is 0 where b_t or b_pri is zero
    """
    chosen = primary.to(gramian.dtype)
    products = gramian @ chosen
    norms = gramian.diagonal().clamp(min=0).sqrt()
    norm = (chosen @ products).clamp(min=0).sqrt()
    lengths = norms * norm
    return products, torch.where(lengths == 0, torch.zeros_like(products), products / lengths)
