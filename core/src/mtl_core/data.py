"""Samples, data sets and batches.

Shape letters: N training samples, B samples of a batch, K tasks, H and W image size.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import attrs
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mtl_core.errors import DataError
from mtl_core.tasks import Tasks


@attrs.define
class Sample:
    """One image with its labels.

    :param image: float (3, H, W) in 0..1, or uint8 (3, H, W)
    :param targets: task name → label, as the task defines it: (H, W) long, (O, H, W) float or () long. A task may be
        missing where the data set has no label for this sample and says so in its ``labelled``
    """

    image: Tensor
    targets: dict[str, Tensor]


@runtime_checkable
class MultiTaskDataset(Protocol):
    """What ``build_dataset`` returns.

    ``labelled`` is the data set's own label mask, bool (N, K), or None where every sample has every label; ``names``
    are the samples' names (for split files by name and for pictures), or None.
    """

    tasks: Tasks
    labelled: Tensor | None
    names: Sequence[str] | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class Batch(NamedTuple):
    """B samples.

    :param images: (B, 3, H, W)
    :param targets: task name → (B, …); blank where ``labelled`` is False
    :param labelled: bool (B, K)
    :param index: (B,) positions in the data set
    """

    images: Tensor
    targets: dict[str, Tensor]
    labelled: Tensor
    index: Tensor  # type: ignore[assignment]  # a field; tuple's method of this name is not used


def collate(rows: Sequence[tuple[Sample, Tensor, int]]) -> Batch:
    """Stack samples, their rows of the label mask and their positions."""
    samples = [sample for sample, _, _ in rows]
    return Batch(
        images=torch.stack([sample.image for sample in samples]),
        targets={name: torch.stack([s.targets[name] for s in samples]) for name in samples[0].targets},
        labelled=torch.stack([labelled for _, labelled, _ in rows]),
        index=torch.tensor([index for _, _, index in rows]),
    )


def image_size(dataset: MultiTaskDataset) -> tuple[int, int]:
    """(H, W) of a data set's images."""
    height, width = dataset[0].image.shape[-2:]
    return int(height), int(width)


class Selected:
    """Some tasks of a data set, in their own order.

    :param names: of the tasks to keep
    """

    def __init__(self, dataset: MultiTaskDataset, names: Sequence[str]) -> None:
        self.dataset, self.tasks, self.names = dataset, dataset.tasks.select(names), dataset.names
        self.labelled = columns(dataset.labelled, dataset.tasks, names)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        return Sample(sample.image, {name: sample.targets[name] for name in self.tasks.names if name in sample.targets})


def columns(labelled: Tensor | None, tasks: Tasks, names: Sequence[str]) -> Tensor | None:
    """The columns of a label mask (N, K) that belong to some tasks."""
    return None if labelled is None else labelled[:, [tasks.position(name) for name in names]]


@attrs.frozen(eq=False)
class ExtraData:
    """Further training data, a fixed number of which is in every batch.

    :param dataset: some or all of the main data set's tasks, images of the same size
    :param per_batch: samples of it in every batch, on every device
    :param labelled: its label mask, bool (N, K of its own tasks); None: what the data set itself says, or every label
    """

    dataset: MultiTaskDataset
    per_batch: int
    labelled: Tensor | None = None


class Aligned:
    """Data with the main data set's tasks; labels that it lacks are blank.

    :param source: what messages call it
    :param like: the main data
    :raises DataError: a task or the image size is another than the main data's
    """

    def __init__(self, source: str, extra: ExtraData, like: MultiTaskDataset) -> None:
        self.dataset, self.tasks, self.names = extra.dataset, like.tasks, extra.dataset.names
        check_fits(source, extra, like)
        first = like[0]
        self.blank = {name: like.tasks[name].blank(label) for name, label in first.targets.items()}
        known = torch.zeros(len(self), len(self.tasks), dtype=torch.bool)
        own = extra.dataset.labelled if extra.labelled is None else extra.labelled
        for k, name in enumerate(extra.dataset.tasks.names):
            if name in self.tasks.names:
                known[:, self.tasks.position(name)] = True if own is None else own[:, k]
        self.labelled: Tensor | None = known

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        return Sample(sample.image, {name: sample.targets.get(name, blank) for name, blank in self.blank.items()})


def check_fits(source: str, extra: ExtraData, like: MultiTaskDataset) -> None:
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


class Joined(Dataset[tuple[Sample, Tensor, int]]):
    """Several data sets one after another: positions of the second begin where those of the first end."""

    def __init__(self, parts: Sequence[Loadable]) -> None:
        self.parts = list(parts)
        self.firsts = [sum(len(part) for part in self.parts[:i]) for i in range(len(self.parts))]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> tuple[Sample, Tensor, int]:
        place = bisect.bisect_right(self.firsts, index) - 1
        sample, labelled, _ = self.parts[place][index - self.firsts[place]]
        return sample, labelled, index


class Loadable(Dataset[tuple[Sample, Tensor, int]]):
    """A data set as the loader sees it: labels that the mask withholds are blank before anything else sees them."""

    def __init__(self, dataset: MultiTaskDataset, labelled: Tensor) -> None:
        self.dataset, self.labelled = dataset, labelled

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Sample, Tensor, int]:
        return self.blanked(index), self.labelled[index], index

    def blanked(self, index: int) -> Sample:
        sample, tasks = self.dataset[index], self.dataset.tasks
        row = dict(zip(tasks.names, self.labelled[index].tolist(), strict=True))
        targets = {name: sample.targets[name] if row[name] else tasks[name].blank(sample.targets[name]) for name in row}
        return Sample(sample.image, targets)
