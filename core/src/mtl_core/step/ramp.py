"""A factor that grows in the first part of a run."""

from __future__ import annotations

import math
from typing import Literal

_Ramp = Literal["sigmoid", "linear"]
"""How a factor grows: exp(−5 (1 − t)²), or t."""


def ramp_up(progress: float, share: float, kind: _Ramp = "sigmoid") -> float:
    """A factor that grows to 1 over the first part of a run.

    With t = ``progress`` / ``share``, at most 1: exp(−5 (1 − t)²), which begins at 0.007 (Laine and Aila, "Temporal
    Ensembling for Semi-Supervised Learning", ICLR 2017), or t.

    :param progress: the share of the training that is done, :attr:`mtl_core.Step.progress`
    :param share: of the training over which the factor grows; 0: it is 1 from the first step on
    """
    if progress >= share:
        return 1.0
    t = progress / share
    return math.exp(-5 * (1 - t) ** 2) if kind == "sigmoid" else t
