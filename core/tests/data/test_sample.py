"""Samples, batches, and what is read of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from mtl_core.data.sample import Sample, image_size
from mtl_core.testing.toys import Shapes


class Asked(Shapes):
    """It counts the labels that it is asked for."""

    def __init__(self, split: str = "train") -> None:
        super().__init__(6, (16, 24), split)
        self.asked: Counter[tuple[int, str]] = Counter()

    def __getitem__(self, index: int) -> Sample:
        return self.sample_with(index, self.tasks.names)

    def sample_with(self, index: int, tasks: Collection[str]) -> Sample:
        sample = super().__getitem__(index)
        self.asked.update((index, name) for name in tasks)
        return Sample(sample.image, {name: label for name, label in sample.targets.items() if name in tasks})


def test_the_size_of_the_images_asks_for_no_label() -> None:
    data = Asked()
    assert image_size(data) == (16, 24)
    assert not data.asked
