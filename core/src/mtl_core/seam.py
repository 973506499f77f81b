"""The seam, for those who use it without the framework: see ``docs/standalone.md``."""

from mtl_core.step.encoder_gradients import Branch, EncoderGradients, Shaped
from mtl_core.training.branching import LossScale, Shaper, branch, weighted_sum
from mtl_core.training.gramian import gramian, parameter_gramian

__all__ = [
    "Branch",
    "EncoderGradients",
    "LossScale",
    "Shaped",
    "Shaper",
    "branch",
    "gramian",
    "parameter_gramian",
    "weighted_sum",
]
