"""Samples, batches, and what is read of a data set."""

from __future__ import annotations

from collections.abc import Collection

import torch

from mtl_core.data.sample import MultiTaskDataset, Sample, collate, image_size, read_sample
from mtl_core.testing.toys import Shapes


class Asked(Shapes):
    """It keeps what it is asked for."""

    def __init__(self) -> None:
        super().__init__(6, (16, 24), "train")
        self.asked: list[tuple[int, tuple[str, ...]]] = []

    def sample_with(self, index: int, tasks: Collection[str]) -> Sample:
        self.asked.append((index, tuple(tasks)))
        sample = self[index]
        return Sample(sample.image, {name: sample.targets[name] for name in tasks})


def test_the_size_of_the_images_asks_for_no_label() -> None:
    data = Asked()
    assert image_size(data) == (16, 24)
    assert data.asked == [(0, ())]


def test_a_data_set_that_reads_label_by_label_is_asked_for_what_is_wanted() -> None:
    data = Asked()
    assert list(read_sample(data, 2, ["depth"]).targets) == ["depth"]
    assert data.asked == [(2, ("depth",))]


def test_any_other_gives_all_that_it_has() -> None:
    assert set(read_sample(Shapes(2, (8, 8), "train"), 0, ()).targets) == {"segmentation", "depth", "normals"}


def test_samples_are_stacked_in_their_order() -> None:
    data = Shapes(6, (8, 12), "train")
    mask = torch.eye(3, dtype=torch.bool)
    batch = collate([(data[i], mask[i], 10 + i) for i in range(3)])
    assert batch.images.shape == (3, 3, 8, 12)
    assert torch.equal(batch.images[1], data[1].image)
    assert torch.equal(batch.targets["normals"][2], data[2].targets["normals"])
    assert torch.equal(batch.labelled, mask)
    assert batch.index.tolist() == [10, 11, 12]


def test_what_a_data_set_must_have() -> None:
    assert isinstance(Shapes(2, (8, 8), "train"), MultiTaskDataset)
    assert not isinstance([1, 2], MultiTaskDataset)
