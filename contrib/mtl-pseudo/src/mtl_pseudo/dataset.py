"""A data set with further tasks, whose labels are what models say of its images.

Shape letters: N samples, K tasks, B samples of a batch, C classes, k classes that are kept, H and W image size.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from mtl_core import (
    Classification,
    MtlError,
    MultiTaskDataset,
    Sample,
    Segmentation,
    Task,
    Tasks,
    read_sample,
    write_text,
)
from mtl_pseudo.decide import at_size
from mtl_pseudo.files import complete, rows_done, write
from mtl_pseudo.specs import Spec
from mtl_pseudo.tasks import SoftClassification, TokenLabels
from mtl_pseudo.teachers import Teacher, teacher_for

_VERSION = 1
"""Version of how labels are made; after a change of it they are made again."""
_LOOKED_AT = 8
"""Images by which a data set is known again."""


@attrs.frozen
class Place:
    """Where one model's labels of one data set lie.

    :param folder: of them
    :param spec: of the model
    :param tasks: that it labels
    """

    folder: Path
    spec: Spec
    tasks: tuple[Task, ...]

    @property
    def arrays(self) -> list[str]:
        return [name for task in self.tasks for name in _parts(task)]

    @property
    def done(self) -> bool:
        return all(complete(self.folder, name).is_file() for name in self.arrays)


def _parts(task: Task) -> list[str]:
    """The arrays of one task's labels."""
    return [f"{task.name}.classes", f"{task.name}.shares"] if isinstance(task, TokenLabels) else [task.name]


def _fingerprint(dataset: MultiTaskDataset) -> str:
    """A digest of a data set's length, names and some of its images, by which it is known again."""
    found = hashlib.sha256()
    length = len(dataset)
    found.update(json.dumps([length, list(dataset.names or ())]).encode())
    for index in sorted({length * step // _LOOKED_AT for step in range(_LOOKED_AT)}) if length else ():
        image = read_sample(dataset, index, ()).image
        found.update(f"{tuple(image.shape)} {image.dtype}".encode() + image.contiguous().numpy().tobytes())
    return found.hexdigest()


def _place_for(root: Path, spec: Spec, teacher: Teacher, data: str) -> Place:
    """A folder of its own for each model, its weights, its settings and the images.

    :param root: of all labels
    :param data: :func:`_fingerprint` of the images
    """
    text = json.dumps([_VERSION, spec.model, spec.settings(), teacher.digest(), data], sort_keys=True)
    version = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Place(root / f"{spec.name}-{version}", spec, tuple(teacher.tasks))


@attrs.define
class Labelling:
    """Lets models label the images of a data set, where that is not done yet.

    :param root: folder of all labels
    :param specs: of the models
    :param batch: B
    :param device: auto: CUDA, else the CPU
    """

    root: Path
    specs: tuple[Spec, ...]
    batch: int
    device: str

    def places(self, dataset: MultiTaskDataset) -> list[Place]:
        """Where the labels lie; they are made if they are not there.

        :raises MtlError: a model cannot be made or read
        """
        data = _fingerprint(dataset)
        return [self.labelled(spec, teacher_for(spec), dataset, data) for spec in self.specs]

    def labelled(self, spec: Spec, teacher: Teacher, dataset: MultiTaskDataset, data: str) -> Place:
        place = _place_for(self.root, spec, teacher, data)
        if place.done:
            return place
        place.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(place.folder / ".lock"):  # processes of one run, and other runs, wait and find the labels
            if not place.done:
                self.label(place, teacher, dataset)
        return place

    def label(self, place: Place, teacher: Teacher, dataset: MultiTaskDataset) -> None:
        about = {"model": place.spec.model, "weights": place.spec.weights, "digest": teacher.digest()}
        write_text(place.folder / "about.json", json.dumps(about | place.spec.settings(), indent=2))
        first = rows_done(place.folder, place.arrays, len(dataset))
        teacher.load(self._chosen_device())
        batches = self.batches(teacher, dataset, first)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))
        with Progress(*columns, disable=rank > 0) as bar:
            task = bar.add_task(f"pseudo-labels {place.spec.name}", total=len(dataset), completed=first)
            for done in write(place.folder, place.arrays, len(dataset), batches, first):
                bar.update(task, completed=done)

    def _chosen_device(self) -> torch.device:
        if self.device != "auto":
            return torch.device(self.device)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @torch.no_grad()
    def batches(self, teacher: Teacher, dataset: MultiTaskDataset, first: int) -> Iterator[Mapping[str, NDArray[Any]]]:
        device = self._chosen_device()
        for begin in range(first, len(dataset), self.batch):
            places = range(begin, min(begin + self.batch, len(dataset)))
            images = torch.stack([read_sample(dataset, i, ()).image for i in places])
            images = images.float() / 255 if images.dtype == torch.uint8 else images
            yield {name: rows.numpy() for name, rows in teacher.label(images.to(device)).items()}


class WithPseudoTasks:
    """A data set with the tasks that models label, behind its own.

    Labels are made when the first sample is asked for, unless they are there. Splits but the training split have none:
    their labels are blank.

    :param dataset: the data set
    :param labelling: makes the labels; the models' tasks are known before
    :param training: whether this is the training split
    :raises MtlError: a model's task has the name of another task
    """

    def __init__(self, dataset: MultiTaskDataset, labelling: Labelling, training: bool) -> None:
        self.dataset = dataset
        self.labelling = labelling
        self.training = training
        self.names: Sequence[str] | None = dataset.names
        self.added = [task for spec in labelling.specs for task in teacher_for(spec).tasks]
        _check_names(dataset.tasks, self.added)
        self.tasks = Tasks([*dataset.tasks, *self.added])
        self.labelled: Tensor | None = _widened(dataset, len(self.added), training)
        self._places: list[Place] | None = None
        self._arrays: dict[str, NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return self.sample_with(index, self.tasks.names)

    def sample_with(self, index: int, tasks: Collection[str]) -> Sample:
        """A sample of which only some labels are read."""
        sample = read_sample(self.dataset, index, [name for name in self.dataset.tasks.names if name in tasks])
        size = (sample.image.shape[-2], sample.image.shape[-1])
        added = [task for task in self.added if task.name in tasks]
        made = {task.name: self.label(task, index, size) if self.training else _blank(task, size) for task in added}
        own = {name: label for name, label in sample.targets.items() if name in tasks}
        return Sample(sample.image, own | made)

    def prepare(self) -> None:
        """Have the labels made, if they are not there."""
        if self.training and self._places is None:
            self._places = self.labelling.places(self.dataset)

    def label(self, task: Task, index: int, size: tuple[int, int]) -> Tensor:
        rows = [torch.from_numpy(np.array(self.array(name)[index])) for name in _parts(task)]
        if isinstance(task, TokenLabels):
            return at_size(torch.cat([rows[0].float(), rows[1]]), size)
        return rows[0].long() if rows[0].dtype == torch.int16 else rows[0]

    def array(self, name: str) -> NDArray[Any]:
        """(N, …), mapped into memory."""
        if name not in self._arrays:
            self.prepare()
            for place in self._places or ():
                if name in place.arrays:
                    self._arrays[name] = np.load(complete(place.folder, name), mmap_mode="r")
        return self._arrays[name]

    def __getstate__(self) -> dict[str, Any]:
        self.prepare()  # a loader's workers find the labels
        return {**self.__dict__, "_arrays": {}}


def _check_names(tasks: Tasks, added: Sequence[Task]) -> None:
    names = [*tasks.names, *(task.name for task in added)]
    for name in names:
        if names.count(name) > 1:
            raise MtlError(
                f'pseudo: there are two tasks "{name}" (the data set has: {", ".join(tasks.names)}); rename the table'
                " in plugins.pseudo.sources"
            )


def _widened(dataset: MultiTaskDataset, added: int, training: bool) -> Tensor | None:
    """The label mask, with columns for the added tasks."""
    if dataset.labelled is None and training:
        return None
    own = dataset.labelled
    if own is None:
        own = torch.ones(len(dataset), len(dataset.tasks), dtype=torch.bool)
    return torch.cat((own, torch.full((len(own), added), training)), 1)


def _blank(task: Task, size: tuple[int, int]) -> Tensor:
    """A label that is invalid everywhere."""
    if isinstance(task, Classification):
        return torch.tensor(-1)
    if isinstance(task, Segmentation):
        return torch.full(size, -1)
    channels = 2 * task.top if isinstance(task, TokenLabels) else task.channels
    shape = (channels, *size) if task.dense and not isinstance(task, SoftClassification) else (channels,)
    return torch.full(shape, float(task.ignored))
