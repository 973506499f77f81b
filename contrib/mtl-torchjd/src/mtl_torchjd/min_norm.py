"""MGDA's minimum-norm point, solved exactly.

Shape letters: m branches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mtl_torchjd.weightings import GramianWeights


class MinNorm(GramianWeights):
    """MGDA: Désidéri, "Multiple-gradient descent algorithm (MGDA) for multiobjective optimization", CRAS 2012.

    Sener and Koltun, NeurIPS 2018, whom torchjd follows, come near the point by Frank-Wolfe steps. Torchjd stops after
    100 of them: 1 to 3 % above the smallest norm for seven gradients of one size, and a thousand times above it where
    their sizes differ by 10⁶.
    """

    def ask(self, weighting: Any, gramian: Tensor) -> Tensor:
        return _min_norm_weights(gramian)


def _min_norm_weights(gramian: Tensor) -> Tensor:
    """The weights of the point with the smallest norm in the gradients' convex hull: argmin αᵀGα, α ≥ 0, Σα = 1.

    α is the direction of the x ≥ 0 with the least ‖Bᵀx‖² + (Σx − 1)², B the gradients: a non-negative least-squares
    problem, which scipy solves by an active set (Lawson and Hanson, *Solving Least Squares Problems*, 1974, ch. 23).
    With x_t = y_t/‖b_t‖ it is one of unit gradients, so that sizes far apart do no harm.

    :param gramian: G (m, m) on the CPU, no row of zeros
    :return: α (m,)
    """
    from scipy.optimize import nnls  # takes a quarter of a second to import; only MGDA needs it

    g = gramian.to(torch.float64)
    norms = g.diagonal().sqrt()
    eigenvalues, vectors = torch.linalg.eigh(g / norms[:, None] / norms)
    # G = BBᵀ is all that is known of B, and any root of it does; rounding may leave eigenvalues below 0
    root = eigenvalues.clamp(min=0).sqrt()[:, None] * vectors.T
    sums_to_one = norms.min() / norms
    left = torch.cat((root, sums_to_one[None]))
    right = torch.zeros(len(left), dtype=torch.float64)
    right[-1] = 1
    y, _ = nnls(left.numpy(), right.numpy())
    x = torch.from_numpy(y) / norms
    return (x / x.sum()).to(gramian)
