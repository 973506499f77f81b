"""Pseudo-labels on disk: one array per task, written by its teacher, read by the student.

Shape letters: N training samples, K tasks, B samples of a batch, H and W image size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl_core import (
    CheckpointError,
    Experiment,
    MultiTaskDataset,
    RunFolder,
    Sample,
    Task,
    load_checkpoint,
    make_fabric,
    network_from,
    open_hooks,
    read_sample,
    write_atomically,
)
from mtl_must.confidence import both_ways, confident

_BATCH = 8


def label_file(place: Path, task: str) -> Path:
    return place / "labels" / f"{task}.npy"


def teacher_run(place: Path, task: str) -> RunFolder:
    return RunFolder(place / "teachers" / task)


def _is_complete(path: Path) -> bool:
    """The file appears when all of it is written."""
    return path.is_file()


@torch.no_grad()
def write_labels(teacher: Experiment, run: RunFolder, place: Path, least: float, tolerance: float | None) -> Path:
    """Let a teacher label every training image.

    :param teacher: an experiment of one task
    :param run: its run, finished
    :param place: receives ``labels/TASK.npy``: (N, …) labels as the task defines them, invalid where not confident
    :param least: smallest class probability
    :param tolerance: largest loss against the mirror image's prediction; None: any
    """
    hooks = open_hooks(teacher)
    saved = run.checkpoint()
    (task,) = teacher.tasks
    network, _ = network_from(hooks, load_checkpoint(saved), saved)
    dataset = hooks.build_dataset("train")
    device = make_fabric(teacher).device
    network.to(device)
    kind = dataset.tasks[task]
    path = label_file(place, task)

    def write(part: Path) -> None:
        kept: Any = None
        for first in range(0, len(dataset), _BATCH):
            places = range(first, min(first + _BATCH, len(dataset)))
            images = torch.stack([read_sample(dataset, i, ()).image for i in places])
            labels = _labelled_by(kind, network, images.to(device), least, tolerance).cpu().numpy()
            if kept is None:
                kept = np.lib.format.open_memmap(part, "w+", labels.dtype, (len(dataset), *labels.shape[1:]))
            kept[first : first + len(labels)] = labels
        kept.flush()

    write_atomically(path, write)
    return path


def _labelled_by(task: Task, network: Any, images: Tensor, least: float, tolerance: float | None) -> Tensor:
    """Labels of images (B, 3, H, W), invalid where the teacher is not confident."""
    images = images.float() / 255 if images.dtype == torch.uint8 else images
    prediction, mirrored = both_ways(network, images, task, tolerance is not None)
    label = task.decode(prediction)
    kept = confident(task, prediction, mirrored, least, tolerance)
    kept = kept.reshape(len(label), *kept.shape[2:]) if label.ndim < kept.ndim else kept
    return torch.where(kept, label, task.blank(label))


class PseudoLabelled:
    """Training data in which what was withheld is what the teachers say.

    :param dataset: the data
    :param given: bool (N, K), labels that the student is given; never replaced
    :param place: the folder that :func:`write_labels` filled
    :raises CheckpointError: a file is missing or of other data
    """

    def __init__(self, dataset: MultiTaskDataset, given: Tensor, place: Path) -> None:
        self.dataset = dataset
        self.given = given
        self.tasks = dataset.tasks
        self.names: Sequence[str] | None = dataset.names
        self.labelled: Tensor | None = None
        self.place = place
        found = [name for name in self.tasks.names if _is_complete(label_file(place, name))]
        for name in found:
            self.check(label_file(place, name))
        self.known = given.clone()
        self.known[:, [self.tasks.position(name) for name in found]] = True
        self.found = found

    def check(self, path: Path) -> None:
        length = len(np.load(path, mmap_mode="r"))
        if length != len(self.dataset):
            raise CheckpointError(
                f"{path}: pseudo-labels of {length} samples, the data set has {len(self.dataset)};"
                f" use the data that the teachers were trained on, or delete {self.place}"
            )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return self.sample_with(index, self.tasks.names)

    def sample_with(self, index: int, tasks: Collection[str]) -> Sample:
        """A sample of which only some labels are read; of those that are withheld none."""
        row = dict(zip(self.tasks.names, self.given[index].tolist(), strict=True))
        sample = read_sample(self.dataset, index, [name for name, given in row.items() if given and name in tasks])
        withheld = [name for name, given in row.items() if not given and name in tasks and name in self.found]
        own = {name: label for name, label in sample.targets.items() if name in tasks}
        return Sample(sample.image, own | {name: self._pseudo(name, index) for name in withheld})

    def _pseudo(self, task: str, index: int) -> Tensor:
        kept = np.load(label_file(self.place, task), mmap_mode="r")[index]
        return torch.from_numpy(np.array(kept))
