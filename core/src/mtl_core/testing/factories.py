"""Tasks, batches and steps to try a plugin on: small, random, and with pixels and labels missing.

Shape letters: V views, B samples, K tasks, O_t channels of task t, H and W image size.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from mtl_core.data.sample import Batch, Sample
from mtl_core.seeds import generator_for
from mtl_core.step.step import Features, Step
from mtl_core.tasks.classification import Classification
from mtl_core.tasks.edges import BinaryEdges
from mtl_core.tasks.normals import Normals
from mtl_core.tasks.regression import Depth, Regression
from mtl_core.tasks.segmentation import Segmentation
from mtl_core.tasks.task import Task
from mtl_core.tasks.tasks import Tasks
from mtl_core.training.build_step import build_step
from mtl_core.training.losses import sample_losses, task_losses

EXAMPLES: dict[str, Task] = {
    "segmentation": Segmentation(name="segmentation", channels=5),
    "depth": Depth(name="depth"),
    "normals": Normals(name="normals"),
    "edges": BinaryEdges(name="edges"),
    "shading": Regression(name="shading", channels=2),
    "scene": Classification(name="scene", channels=4),
}
"""A task of every kind, by name."""

DENSE = ("segmentation", "depth", "normals")


def make_tasks(*names: str) -> Tasks:
    """Tasks of :data:`EXAMPLES`; segmentation, depth and normals where none is named."""
    return Tasks([EXAMPLES[name] for name in names or DENSE])


def make_target(task: Task, samples: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Random labels (B, …) of a task, a fifth of their pixels invalid."""
    return task.example(samples, size, generator)


def make_sample(tasks: Tasks, size: tuple[int, int] = (32, 48), seed: int = 0) -> Sample:
    """One sample with every label."""
    generator = generator_for(seed, "sample")
    image = torch.rand(3, *size, generator=generator)
    return Sample(image, {task.name: make_target(task, 1, size, generator)[0] for task in tasks})


def make_batch(
    tasks: Tasks, labelled: Tensor | None = None, samples: int = 4, size: tuple[int, int] = (32, 48), seed: int = 0
) -> Batch:
    """A batch of random samples; what the mask withholds is blank.

    :param labelled: bool (B, K); every label where it is None
    """
    generator = generator_for(seed, "batch")
    mask = torch.ones(samples, len(tasks), dtype=torch.bool) if labelled is None else labelled
    samples = len(mask)
    images = torch.rand(samples, 3, *size, generator=generator)
    targets = {}
    for k, task in enumerate(tasks):
        target = make_target(task, samples, size, generator)
        # (B,) → (B, 1, …), to broadcast over the label
        kept = mask[:, k].view(-1, *[1] * (target.ndim - 1))
        targets[task.name] = torch.where(kept, target, task.blank(target))
    return Batch(images, targets, mask, torch.arange(samples))


def make_predictions(tasks: Tasks, views: int, samples: int, size: tuple[int, int], seed: int) -> dict[str, Tensor]:
    """Random predictions (V, B, O_t, …), leaves that collect gradients."""
    generator = generator_for(seed, "predictions")
    shapes = {t.name: (views, samples, t.channels, *(size if t.dense else ())) for t in tasks}
    return {name: torch.randn(shape, generator=generator).requires_grad_() for name, shape in shapes.items()}


def make_features(rows: int, size: tuple[int, int], seed: int, pyramid: bool) -> Features:
    """Random z of V·B rows, a leaf that collects gradients; as a pyramid two levels, coarse and coarser."""
    generator = generator_for(seed, "features")
    if not pyramid:
        return torch.randn(rows, 6, *size, generator=generator).requires_grad_()
    shapes = [(rows, 6 + k, max(1, size[0] >> k), max(1, size[1] >> k)) for k in (1, 2)]
    return tuple(torch.randn(shape, generator=generator).requires_grad_() for shape in shapes)


def make_step(
    tasks: Tasks,
    batch: Batch | None = None,
    views: int = 1,
    seed: int = 0,
    rank: int = 0,
    pyramid: bool = False,
) -> Step:
    """A step as regularizers and loss rules see it, with ``normalize = "sample"``.

    :param batch: by default one with every label
    :param rank: of the process whose generator the step has
    :param pyramid: whether z is a tuple of levels that are coarser than the image, as of some encoders
    """
    batch = make_batch(tasks, seed=seed) if batch is None else batch
    size = (batch.images.shape[-2], batch.images.shape[-1])
    samples = len(batch.images)
    predictions = make_predictions(tasks, views, samples, size, seed)
    generator = generator_for(seed, "step", 0, rank)
    features = make_features(views * samples, size, seed, pyramid)
    images = batch.images.expand(views, *batch.images.shape)
    step = build_step(tasks, batch, images, predictions, features, generator)
    # the trainer sets it too, after the step is built
    step.shared = generator_for(seed, "shared", 0)
    return step


def with_losses(step: Step) -> Step:
    """The step with the losses that belong to its predictions and targets."""
    first = {name: p[0] for name, p in step.predictions.items()}
    losses = sample_losses(step.tasks, first, step.targets, step.labelled)
    per_task, means, active = task_losses(losses, step.labelled, "sample")
    return attrs.evolve(step, losses=losses, task_losses=per_task, task_means=means, active=active)


def to_meta(step: Step) -> Step:
    """The same step on the ``meta`` device, where a host sync or a data-dependent shape raises."""

    def moved(value: Tensor) -> Tensor:
        return value.detach().to("meta").requires_grad_(value.requires_grad)

    features = step.features
    # losses are computed again, from predictions that are leaves on the device
    return with_losses(
        attrs.evolve(
            step,
            images=step.images.to("meta"),
            predictions={name: moved(p) for name, p in step.predictions.items()},
            targets={name: t.to("meta") for name, t in step.targets.items()},
            labelled=step.labelled.to("meta"),
            features=moved(features) if isinstance(features, Tensor) else tuple(moved(z) for z in features),
            index=step.index.to("meta"),
        )
    )


def masks(samples: int, tasks: int) -> dict[str, Tensor]:
    """Label masks (B, K) worth trying: full, one label per sample, one task absent, one task alone, no label at all."""
    full = torch.ones(samples, tasks, dtype=torch.bool)
    one = torch.arange(samples)[:, None] % tasks == torch.arange(tasks)
    first = torch.arange(tasks) == 0
    return {"full": full, "one label": one, "absent": full & ~first, "alone": full & first, "none": ~full}


def other_invalid_values(task: Task, target: Tensor) -> Tensor:
    """The same label with other values where it is invalid, for kinds that have more than one."""
    # a mask that broadcasts over the label: (B, 1, H, W), over classes (B, H, W), over labels of whole images (B, …)
    invalid = ~task.valid(target)
    if target.ndim >= 3:
        invalid = invalid.view(len(target), 1, *target.shape[-2:])
    else:
        invalid = invalid.view(target.shape)
    if target.ndim == 3:
        invalid = invalid[:, 0]
    value = task.ignored if task.also_invalid is None else task.also_invalid
    return torch.where(invalid, torch.full_like(target, value), target)
