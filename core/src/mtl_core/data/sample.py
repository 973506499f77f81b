"""Samples, batches and the protocol of data sets.

Shape letters: N training samples, B samples of a batch, K tasks, H and W image size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import attrs
import torch
from torch import Tensor
from torch.utils.data import default_collate

from mtl_core.tasks.tasks import Tasks


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

    A data set that reads labels one by one may also have ``sample_with(index, tasks)``, see :func:`read_sample`.
    """

    tasks: Tasks
    labelled: Tensor | None
    names: Sequence[str] | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class _PartialReader(Protocol):
    """What a data set may have besides :class:`MultiTaskDataset`: it can leave labels out."""

    def sample_with(self, index: int, tasks: Collection[str]) -> Sample:
        """A sample as indexing gives it, without the labels of other tasks: their files are not opened.

        :param tasks: names of the tasks whose labels are wanted; may be empty
        """


def read_sample(dataset: MultiTaskDataset, index: int, tasks: Collection[str]) -> Sample:
    """A sample of which only some labels are wanted.

    A data set with the method ``sample_with(index, tasks)`` reads no more than these; any other reads all, and labels
    that were not asked for may be in the sample.

    :param tasks: names of the tasks whose labels are wanted
    """
    reader = getattr(dataset, "sample_with", None)
    sample: Sample = dataset[index] if reader is None else reader(index, tasks)
    return sample


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
    # torch's own collation stacks into shared memory in a worker, which spares a copy of the batch
    return Batch(
        images=default_collate([sample.image for sample in samples]),
        targets={name: default_collate([s.targets[name] for s in samples]) for name in samples[0].targets},
        labelled=default_collate([labelled for _, labelled, _ in rows]),
        index=torch.tensor([index for _, _, index in rows]),
    )


def image_size(dataset: MultiTaskDataset) -> tuple[int, int]:
    """(H, W) of a data set's images."""
    height, width = read_sample(dataset, 0, ()).image.shape[-2:]
    return int(height), int(width)


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
