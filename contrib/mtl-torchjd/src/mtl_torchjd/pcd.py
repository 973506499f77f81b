"""PCD: each task's mean square norm, over the steps that reached it.

Shape letters: K tasks, m of them reached.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mtl_torchjd.weightings import GramianWeights


class SquareNorms(GramianWeights):
    """PCD's weighting with a count of steps for each task; torchjd has one for all rows.

    torchjd scales row t by its mean v = (β e + (1 − β) q) / (1 − β^(n + 1)), q its square norm in this step. It is
    given n = 0, and e so that v is the one of e_t and n_t, which are kept here.
    """

    def recall(self, rows: Tensor, gramian: Tensor) -> Any:
        weighting = super().recall(rows, gramian)
        squares = gramian.diagonal()
        beta = weighting.beta
        e = weighting._sq_norm_ema
        n = weighting._n_steps.double()
        v = (beta * e + (1 - beta) * squares) / (1 - beta ** (n + 1))
        if beta:  # else v is q, whatever e is
            weighting._sq_norm_ema = (1 - beta) * (v - squares) / beta
        weighting.counts = weighting._n_steps
        weighting._n_steps = weighting._n_steps.new_zeros(())
        return weighting

    def remembered(self, weighting: Any, rows: Tensor) -> dict[str, Tensor]:
        v = weighting._sq_norm_ema / (1 - weighting.beta)
        weighting._n_steps = weighting.counts + 1
        weighting._sq_norm_ema = v * (1 - weighting.beta ** weighting._n_steps.double())
        return super().remembered(weighting, rows)
