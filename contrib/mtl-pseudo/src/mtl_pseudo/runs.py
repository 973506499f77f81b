"""A run of ours as the model that labels.

Shape letters: B samples, O channels of a task, H and W image size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from mtl_core import (
    Classification,
    DataError,
    RunFolder,
    Segmentation,
    Task,
    Tasks,
    load_checkpoint,
    load_experiment,
    nearest,
    network_from,
    open_hooks,
)
from mtl_pseudo.specs import Spec
from mtl_pseudo.weights import digest

_Size = tuple[int, int]


@attrs.define
class RunTeacher:
    """The network of a run, for some of its tasks.

    :param spec: its table
    """

    spec: Spec
    network: Any = None
    size: _Size = (0, 0)

    @property
    def run(self) -> RunFolder:
        return RunFolder(Path(self.spec.of_library).expanduser())

    @property
    def path(self) -> Path:
        return self.run.require().checkpoint(self.spec.checkpoint)

    @property
    def kinds(self) -> Tasks:
        """The run's tasks that are asked for."""
        self.open()
        known: Tasks = self.network.tasks
        for name in self.spec.tasks:
            if name not in known.names:
                raise DataError(
                    f"{self.run.folder}: the run has no task {name!r}{nearest(name, known.names)} (its tasks:"
                    f" {', '.join(known.names)})"
                )
        return known.select(self.spec.tasks or known.names)

    @property
    def tasks(self) -> Sequence[Task]:
        kinds = list(self.kinds)
        alone = len(kinds) == 1
        names = [self.spec.name if alone else f"{self.spec.name}_{task.name}" for task in kinds]
        return [attrs.evolve(task, name=name) for task, name in zip(kinds, names, strict=True)]

    def digest(self) -> str:
        return digest(self.path) + digest(self.run.experiment)

    def open(self) -> None:
        """Make the network, once."""
        if self.network is None:
            self.run.require()
            hooks = open_hooks(load_experiment(self.run.experiment), ("build_backbone", "build_heads"))
            self.network, self.size = network_from(hooks, load_checkpoint(self.path), self.path)

    def load(self, device: torch.device) -> None:
        self.open()
        self.network.eval().to(device)

    def label(self, images: Tensor) -> dict[str, Tensor]:
        size = (images.shape[-2], images.shape[-1])
        fitted = images if size == self.size else F.interpolate(images, self.size, mode="bilinear", antialias=True)
        predictions = self.network(fitted.clamp(0, 1))
        return {
            task.name: _compact(_resized(kind, _decided(kind, predictions[kind.name].float(), self.spec.score), size))
            for kind, task in zip(self.kinds, self.tasks, strict=True)
        }


def _decided(task: Task, prediction: Tensor, score: float) -> Tensor:
    """Predictions as labels; classes below the score are invalid."""
    label = task.decode(prediction)
    if not isinstance(task, Segmentation | Classification):
        return label
    return torch.where(prediction.softmax(1).amax(1) >= score, label, task.blank(label))


def _resized(task: Task, label: Tensor, size: _Size) -> Tensor:
    """Labels (B, …, H', W') at another size: values that were there, but for tasks whose labels may be averaged."""
    if not task.dense or tuple(label.shape[-2:]) == size:
        return label
    flat = label.reshape(len(label), -1, *label.shape[-2:]).float()
    if task.interpolation == "bilinear":
        mixed = F.interpolate(flat, size, mode="bilinear", antialias=True)
        return task.to_label_space(mixed).reshape(*label.shape[:-2], *size)
    return F.interpolate(flat, size, mode="nearest-exact").reshape(*label.shape[:-2], *size).to(label.dtype)


def _compact(label: Tensor) -> Tensor:
    """As it is kept: classes in 16 bits."""
    return (label if label.is_floating_point() else label.short()).cpu()
