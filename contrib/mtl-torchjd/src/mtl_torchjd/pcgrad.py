"""PCGrad's projections, those of all gradients at once.

Shape letters: m branches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl_torchjd.weightings import GramianWeights


class Projections(GramianWeights):
    """PCGrad: Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, Algorithm 1.

    Torchjd compares two gradients at a time, in some 2 m² operations of PyTorch; a GPU waits for them in every step.
    """

    def ask(self, weighting: Any, gramian: Tensor) -> Tensor:
        return _projected_weights(gramian)


def _projected_weights(gramian: Tensor) -> Tensor:
    """Σ_i of the weights of g_i, after each g_j, in random order, had its part taken out of g_i that g_i opposes.

    Draws from torch's generator, in the same order as torchjd.

    :param gramian: G (m, m) on the CPU, no row of zeros
    :return: (m,)
    """
    g = gramian.numpy()
    every = np.arange(len(g))
    # row i: what g_i is made of, and in what order it is compared with the others
    weights = np.eye(len(g), dtype=g.dtype)
    orders = np.stack([torch.randperm(len(g)).numpy() for _ in every])
    for other in orders.T:
        products = (weights * g[other]).sum(1)
        opposed = (products < 0) & (other != every)
        weights[every, other] -= np.where(opposed, products / g[other, other], 0)
    return torch.from_numpy(weights.sum(0))
