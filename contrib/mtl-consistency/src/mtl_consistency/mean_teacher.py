"""Mean teacher: an average of the network gives targets to it.

Shape letters: V views, B samples, K tasks, O_t channels of task t, H and W image size.
"""

from __future__ import annotations

from typing import Literal

import torch
from attrs import field
from attrs.validators import ge, in_, le, lt
from torch import Tensor, nn

from mtl_core import About, LookAhead, Step, Task, at_least_float32, help, hookimpl, plugin, ramp_up
from mtl_nn import AveragedNetwork


@plugin
class MeanTeacher(nn.Module):
    """Predictions must agree with those of an average of the network for another augmentation of the image.

    Tarvainen and Valpola, "Mean teachers are better role models: Weight-averaged consistency targets improve
    semi-supervised deep learning results", NeurIPS 2017, for each task: (1/N) Σ_x Σ_{t∈C_x} d^t(ŷ^t(A₁(x); θ),
    ȳ^t(A₂(x); θ̄)) / |C_x|, with θ̄ ← α θ̄ + (1 − α) θ after every step. d is the mean over pixels of the squares in label
    space, or the task's own loss with a soft target.
    """

    about = About(
        formula=(
            "w(step) · (1/N) Σ_x Σ_{t∈C_x} d^t(ŷ^t(A₁(x); θ), ⟨ȳ^t(A₂(x); θ̄)⟩) / |C_x|; θ̄ ← α θ̄ + (1 − α) θ; C_x: all"
            " tasks, or those without a label"
        ),
        source=(
            "Tarvainen and Valpola, Mean teachers are better role models: Weight-averaged consistency targets improve"
            " semi-supervised deep learning results, NeurIPS 2017"
        ),
        cost=(
            "a second view of the images through the network, and one forward pass of the average; its weights twice"
            " more in memory"
        ),
        departs="the paper classifies images; one distance for each task, their mean, and views in photometry alone",
    )

    weight: float = field(default=1.0, validator=ge(0.0), metadata=help("coefficient of the term, after the ramp"))
    decay: float = field(
        default=0.999,
        validator=[ge(0.0), lt(1.0)],
        metadata=help("α of the average; in the first steps 1 - 1 / (n + 1)"),
    )
    ramp: float = field(
        default=0.25,
        validator=[ge(0.0), le(1.0)],
        metadata=help("share of the training over which the coefficient grows, as exp(-5 (1 - t)²); 0: none"),
    )
    compare: Literal["all", "unlabelled"] = field(
        default="all",
        validator=in_(("all", "unlabelled")),
        metadata=help("which tasks of a sample are compared: all, as published, or those without a label"),
    )
    loss: Literal["square", "task"] = field(
        default="square",
        validator=in_(("square", "task")),
        metadata=help("mean square difference in label space, or the task's own loss with a soft target"),
    )

    @hookimpl
    def setup(self, backbone: nn.Module, heads: nn.ModuleDict) -> None:
        self.teacher = AveragedNetwork(backbone, heads, self.decay)

    @hookimpl
    def count_views(self) -> int:
        return 2

    @hookimpl
    def before_step(self, look_ahead: LookAhead) -> None:
        """Take the weights that the last step made into the average."""
        self.teacher.update()

    @hookimpl
    def compute_regularizer(self, step: Step) -> dict[str, Tensor]:
        taught = self.teacher(step.images[1])
        distances = torch.stack([self._distance(step, task, taught[task.name]) for task in step.tasks], 1)
        share = self._shares(step.labelled, distances.dtype)
        coefficient = self.weight * ramp_up(step.progress, self.ramp)
        return {"difference": coefficient * (share * distances).sum(1).mean()}

    def _distance(self, step: Step, task: Task, taught: Tensor) -> Tensor:
        """d^t of every sample, (B,), with a gradient for the network's first view alone."""
        prediction = at_least_float32(step.predictions[task.name][0])
        target = task.to_label_space(at_least_float32(taught)).detach()
        if self.loss == "task":
            return task.soft_loss(prediction, target).flatten(1).mean(1)
        return (task.to_label_space(prediction) - target).square().flatten(1).mean(1)

    def _shares(self, labelled: Tensor, dtype: torch.dtype) -> Tensor:
        """With what share a task counts in its sample, (B, K)."""
        counted = (torch.ones_like(labelled) if self.compare == "all" else ~labelled).to(dtype)
        return counted / counted.sum(1, keepdim=True).clamp(min=1)
