"""GradDrop with one decision for a whole batch, as published.

Shape letters: m reached tasks, N images in all views, the other dimensions of a level of z as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_core import Branch, EncoderGradients, Features, MtlError
from mtl_torchjd.elementwise import Elementwise, like_z, rows_of, used
from mtl_torchjd.subset import seeded


class BatchGradDrop(Elementwise):
    """GradDrop: Chen et al., "Just Pick a Sign", NeurIPS 2020, Algorithm 1 with its lines for batches.

    torchjd has lines 10 to 15, which compare the tasks entry by entry. At the seam an entry
    belongs to one image: with one label per image no two tasks meet there, and nothing is ever dropped. The paper
    multiplies with the sign of z and adds over the images before it compares.

    :raises MtlError: z is not known
    """

    def entering(self, branches: Sequence[Branch], reached: Tensor, gradients: EncoderGradients) -> Features:
        if gradients.step is None:
            raise MtlError('graddrop = "batch" needs the features z, which are not given outside of a training step')
        z = gradients.step.features
        levels = (z,) if isinstance(z, Tensor) else z
        leak = self._leak(reached, gradients.gramian)
        shaped = []
        with seeded(gradients.step):
            for level in used(branches):
                shaped.append(_drop_by_batch(rows_of(branches, level), levels[level].detach(), leak))
        if not gradients.gramian.isfinite().all():  # a comparison with NaN would drop it
            shaped = [torch.full_like(level, torch.nan) for level in shaped]
        return like_z(shaped, branches)

    def _leak(self, reached: Tensor, like: Tensor) -> Tensor:
        """ℓ of the reached tasks, (m,)."""
        leak: Tensor | None = self.recipe.make(reached, like).leak
        return torch.zeros(len(reached), device=like.device) if leak is None else leak.to(like.device)


def _drop_by_batch(rows: Tensor, z: Tensor, leak: Tensor) -> Tensor:
    """Σ_t (ℓ_t + (1 − ℓ_t) M_t) b_t, M_t a mask that is the same for all images.

    With g_t = Σ_n sign(z_n) b_tn and P = ½ (1 + Σ_t g_t / Σ_t |g_t|), M_t is 1 where g_t > 0 and P > U, or g_t < 0 and
    P < U; U is uniform in 0..1.

    :param rows: b_t (m, N, …)
    :param z: (N, …)
    :param leak: ℓ (m,)
    :return: (N, …)
    """
    signed = (rows * z.sign()).sum(1)
    total = signed.abs().sum(0)
    # where no task has a gradient there is nothing to drop; 0/0 is kept out
    purity = torch.where(total > 0, (1 + signed.sum(0) / total) / 2, torch.full_like(total, 0.5))
    drawn = torch.rand(purity.shape, dtype=purity.dtype, device=purity.device)
    kept = torch.where(purity > drawn, signed > 0, signed < 0)
    shares = leak.to(rows).view(-1, *[1] * (kept.ndim - 1))
    weights = shares + (1 - shares) * kept
    return (weights[:, None] * rows).sum(0)
