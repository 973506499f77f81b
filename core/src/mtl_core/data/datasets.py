"""Data sets made of data sets: some tasks, other tasks, several in a row, withheld labels blanked.

Shape letters: N training samples, K tasks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

from mtl_core.data.checks import check_tasks
from mtl_core.data.sample import ExtraData, MultiTaskDataset, Sample, image_size, read_sample
from mtl_core.errors import DataError
from mtl_core.tasks.task import Task
from mtl_core.tasks.tasks import Tasks


class Selected:
    """Some tasks of a data set, in their own order.

    :param names: of the tasks to keep
    """

    def __init__(self, dataset: MultiTaskDataset, names: Sequence[str]) -> None:
        self.dataset = dataset
        self.tasks = dataset.tasks.select(names)
        self.names = dataset.names
        self.labelled = columns(dataset.labelled, dataset.tasks, names)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return self.sample_with(index, self.tasks.names)

    def sample_with(self, index: int, tasks: Collection[str]) -> Sample:
        sample = read_sample(self.dataset, index, tasks)
        wanted = [name for name in self.tasks.names if name in tasks and name in sample.targets]
        return Sample(sample.image, {name: sample.targets[name] for name in wanted})


class Retasked:
    """A data set whose tasks have other options, such as another loss; samples and labels are the same.

    :param tasks: of the same names
    """

    def __init__(self, dataset: MultiTaskDataset, tasks: Tasks) -> None:
        self.dataset = dataset
        self.tasks = tasks
        self.names = dataset.names
        self.labelled = dataset.labelled

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[index]


class Part:
    """Some samples of a data set, in the order of their positions, with a label mask of their own.

    :param labelled: of the whole data set, bool (N, K)
    :param places: positions in it
    """

    def __init__(self, dataset: MultiTaskDataset, labelled: Tensor, places: Sequence[int]) -> None:
        self.dataset = dataset
        self.tasks = dataset.tasks
        self.places = list(places)
        self.labelled: Tensor | None = labelled[self.places]
        self.names: Sequence[str] | None = dataset.names and [dataset.names[place] for place in self.places]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.places[index]]


def every_label(dataset: MultiTaskDataset) -> Tensor:
    """The label mask of a data set whose labels are all given, bool (N, K)."""
    every = torch.ones(len(dataset), len(dataset.tasks), dtype=torch.bool)
    return every if dataset.labelled is None else dataset.labelled


def columns(labelled: Tensor | None, tasks: Tasks, names: Sequence[str]) -> Tensor | None:
    """The columns of a label mask (N, K) that belong to some tasks."""
    return None if labelled is None else labelled[:, [tasks.position(name) for name in names]]


class Aligned:
    """Data with the main data set's tasks; labels that it lacks are blank.

    :param source: what messages call it
    :param like: the main data
    :raises DataError: a task or the image size is another than the main data's
    """

    def __init__(self, source: str, extra: ExtraData, like: MultiTaskDataset) -> None:
        self.dataset = extra.dataset
        self.tasks = like.tasks
        self.names = extra.dataset.names
        _check_fits(source, extra, like)
        self.blank = {task.name: task.blank_label(image_size(like)) for task in like.tasks}
        known = torch.zeros(len(self), len(self.tasks), dtype=torch.bool)
        own = extra.dataset.labelled if extra.labelled is None else extra.labelled
        for k, name in enumerate(extra.dataset.tasks.names):
            if name in self.tasks.names:
                # columns in the main data's order of tasks; a task that the extra data lack stays False
                known[:, self.tasks.position(name)] = True if own is None else own[:, k]
        self.labelled: Tensor | None = known

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.sample_with(index, self.tasks.names)
        return Sample(sample.image, {name: sample.targets.get(name, blank) for name, blank in self.blank.items()})

    def sample_with(self, index: int, tasks: Collection[str]) -> Sample:
        own = [name for name in self.dataset.tasks.names if name in tasks and name in self.tasks.names]
        sample = read_sample(self.dataset, index, own)
        return Sample(sample.image, {name: sample.targets[name] for name in own if name in sample.targets})


def _check_fits(source: str, extra: ExtraData, like: MultiTaskDataset) -> None:
    if image_size(extra.dataset) != image_size(like):
        raise DataError(
            f"{source}: extra images of {image_size(extra.dataset)} pixels (height, width), the training images have"
            f" {image_size(like)}; give both data sets one size"
        )
    shared = [task for task in extra.dataset.tasks if task.name in like.tasks.names]
    wrong = [t for t in shared if (type(t), t.channels) != (type(like.tasks[t.name]), like.tasks[t.name].channels)]
    if not shared:
        raise DataError(
            f"{source}: extra data with the tasks {', '.join(extra.dataset.tasks.names)}, none of which is one of the"
            f" training data's ({', '.join(like.tasks.names)})"
        )
    if wrong:
        raise DataError(f"{source}: extra data with {wrong[0]}; the training data have {like.tasks[wrong[0].name]}")


class Joined(ConcatDataset[tuple[Sample, Tensor, int]]):
    """Several data sets one after another: positions of the second begin where those of the first end."""

    def __getitem__(self, index: int) -> tuple[Sample, Tensor, int]:
        row: tuple[Sample, Tensor, int] = super().__getitem__(index)  # type: ignore[no-untyped-call]
        sample, labelled, _ = row
        # the position in all the data: the part gave its own
        return sample, labelled, index


class BlankedDataset(Dataset[tuple[Sample, Tensor, int]]):
    """A data set as the loader sees it: labels that the mask withholds are blank before anything else sees them.

    A label that the mask withholds may be absent. Where the data set has ``sample_with`` it is not asked for.

    :raises DataError: when a sample is read that lacks a label which the mask does not withhold, or has a class that
        does not exist
    """

    def __init__(self, dataset: MultiTaskDataset, labelled: Tensor) -> None:
        self.dataset = dataset
        self.labelled = labelled

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Sample, Tensor, int]:
        return self.blanked(index), self.labelled[index], index

    def blanked(self, index: int) -> Sample:
        tasks = self.dataset.tasks
        row = dict(zip(tasks.names, self.labelled[index].tolist(), strict=True))
        sample = read_sample(self.dataset, index, [name for name, labelled in row.items() if labelled])
        check_tasks(tasks, sample, row, f"sample {index}")
        # also where the data set gave the label: nothing from here on can learn from it
        targets = {name: sample.targets[name] if row[name] else _blank_for(tasks[name], sample) for name in row}
        return Sample(sample.image, targets)


def _blank_for(task: Task, sample: Sample) -> Tensor:
    """A blank label like the sample's own, or, where it has none, like its image."""
    if task.name in sample.targets:
        return task.blank(sample.targets[task.name])
    return task.blank_label((int(sample.image.shape[-2]), int(sample.image.shape[-1])))
