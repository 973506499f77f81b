"""Coefficients that grow in the first part of a run. Not in the paper."""

from __future__ import annotations

from mtl_core import Step, ramp_up
from mtl_jtr.options import Options


def growth(options: Options, step: Step) -> float:
    """By what c_dist and c_pseudo are multiplied in this step; 1 where no ramp is set."""
    return ramp_up(step.progress, options.ramp, options.ramp_as)
