"""Consistency regularization of tasks without a label.

Shape letters: V views, B samples, K tasks, O_t channels of task t, H and W image size.
"""

from __future__ import annotations

import torch
from attrs import field
from attrs.validators import ge
from torch import Tensor

from mtl_consistency.mean_teacher import MeanTeacher
from mtl_core import About, Step, Task, at_least_float32, help, hookimpl, plugin

__all__ = ["Consistency", "MeanTeacher"]


@plugin
class Consistency:
    """Predictions of tasks without a label must agree over two augmented views of an image.

    The baseline of Nishi et al., CVPR 2024, Eq. 2: Σ_{t∈U_x} ‖ŷ^t(A₁(x)) − ŷ^t(A₂(x))‖² / |U_x|, averaged over the
    samples. The square is averaged over pixels and channels of the label space, so that its size depends on neither.
    """

    about = About(
        formula="(1/N) Σ_x Σ_{t∈U_x} ‖ŷ^t(A₁(x)) − ŷ^t(A₂(x))‖² / |U_x|, in label space",
        source="Nishi et al., CVPR 2024, Eq. 2",
        cost="one more view: a second forward and backward pass of the network",
        departs=(
            "the square is a mean over pixels and channels, which the equation leaves open; views differ in "
            "photometry alone"
        ),
    )

    weight: float = field(default=1.0, validator=ge(0.0), metadata=help("coefficient of the term"))

    @hookimpl
    def count_views(self) -> int:
        return 2

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        differences = torch.stack([_disagreement(step, task) for task in step.tasks], 1)
        missing = (~step.labelled).to(differences.dtype)
        share = missing / missing.sum(1, keepdim=True).clamp(min=1)
        return {"difference": self.weight * (share * differences).sum(1).mean()}


def _disagreement(step: Step, task: Task) -> Tensor:
    """Mean square difference of a task's two views in label space, (B,)."""
    one, two = (task.to_label_space(at_least_float32(step.predictions[task.name][view])) for view in range(2))
    return (one - two).square().flatten(1).mean(1)
