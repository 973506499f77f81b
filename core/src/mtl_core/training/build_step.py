"""The one place where a :class:`Step` is made.

Shape letters: V views, B samples, K tasks.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from mtl_core.data.sample import Batch
from mtl_core.step.step import Features, Step
from mtl_core.tasks.tasks import Tasks
from mtl_core.training.losses import Normalize, sample_losses, task_losses


def build_step(
    tasks: Tasks,
    batch: Batch,
    images: Tensor,
    predictions: dict[str, Tensor],
    features: Features,
    generator: torch.Generator,
    normalize: Normalize = "sample",
    group: dist.ProcessGroup | None = None,
    expected: Tensor | None = None,
) -> Step:
    """A step with the supervised losses of its view 0, as rules and regularizers see it.

    :param images: (V, B, 3, H, W), augmented
    :param predictions: task → (V, B, O_t, …)
    :param features: z of all views
    :param expected: samples that carry each task in a micro-batch, see :func:`task_losses`
    """
    # labels belong to view 0; other views are for regularizers
    first = {name: _first_view(p) for name, p in predictions.items()}
    losses = sample_losses(tasks, first, batch.targets, batch.labelled)
    per_task, means, active = task_losses(losses, batch.labelled, normalize, group, expected)
    return Step(
        tasks=tasks,
        images=images,
        predictions=predictions,
        targets=batch.targets,
        labelled=batch.labelled,
        features=features,
        index=batch.index,
        losses=losses,
        task_losses=per_task,
        task_means=means,
        active=active,
        generator=generator,
    )


def _first_view(prediction: Tensor) -> Tensor:
    """(V, B, …) → (B, …)."""
    # p[0] fills a tensor of all views with zeros in the backward pass, and copies into it; squeeze is a view there too
    return prediction.squeeze(0) if len(prediction) == 1 else prediction[0]
