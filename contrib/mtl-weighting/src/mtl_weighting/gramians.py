"""What methods on the Gramian of the branch gradients share: unit rows, and rows that nothing reached.

Methods that look at directions solve on the cosines C[i, j] = ⟨b_i, b_j⟩ / (‖b_i‖‖b_j‖), in float64 where there is one:
their solution does not depend on the scale of the gradients, and rows of very different sizes do no harm.
Shape letters: K tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor


def precise(values: Tensor) -> Tensor:
    """As float64, where the device has it."""
    return values.float() if values.device.type == "mps" else values.double()


def cosines(gramian: Tensor, reached: Tensor) -> Tensor:
    """C (K, K), precise, the row and column of an unreached branch those of the identity.

    :param gramian: G (K, K)
    :param reached: bool (K,)
    """
    g = precise(gramian)
    eye = torch.eye(len(g), dtype=g.dtype, device=g.device)
    norms = g.diagonal().clamp(min=0).sqrt()
    norms = torch.where(reached, norms, torch.ones_like(norms))
    unit = g / norms[:, None] / norms
    return torch.where(reached[:, None] & reached, unit, eye)


def with_ridge(c: Tensor, dtype: torch.dtype) -> Tensor:
    """C with a small ridge, so that dependent gradients can be solved for.

    It is larger than the rounding error of C's eigenvalues, about K times the precision of the Gramian's type.

    :param dtype: of the Gramian that C was made of
    """
    size = max(1e-10, 10 * len(c) * torch.finfo(dtype).eps)
    return c + size * torch.eye(len(c), dtype=c.dtype, device=c.device)


def per_branch(coefficients: Tensor, gramian: Tensor, reached: Tensor) -> Tensor:
    """Coefficients of the unit rows as weights of the branches: divided by ‖b_t‖, 0 where nothing reached.

    :param coefficients: (K,)
    :return: (K,); NaN throughout where the Gramian is not finite: core then skips the step
    """
    norms = precise(gramian).diagonal().clamp(min=0).sqrt()
    weights = torch.where(reached, coefficients / norms, torch.zeros_like(norms))
    return torch.where(gramian.isfinite().all(), weights, torch.full_like(weights, torch.nan))
