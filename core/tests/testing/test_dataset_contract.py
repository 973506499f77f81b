"""The contracts of data sets and label masks pass what is sound and reject what is not."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from attrs import field
from torch import Tensor

from mtl_core.data.sample import MultiTaskDataset, Sample
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.options.fields import help
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing import DatasetContract, LabelMaskContract, failures
from mtl_core.testing.toys import Shapes, ToyData, ToyLabels

SIZE = (16, 16)


class Changed(Shapes):
    """The toy data set with a fault."""

    def __init__(self, split: str, change: Callable[[Sample, int], Sample]) -> None:
        super().__init__(4, SIZE, split)
        self.change = change

    def __getitem__(self, index: int) -> Sample:
        return self.change(super().__getitem__(index), index)


class Faults:
    """What can be wrong with a sample, by name."""

    @staticmethod
    def bytes_as_floats(sample: Sample, index: int) -> Sample:
        return Sample(sample.image * 255, sample.targets)

    @staticmethod
    def grey(sample: Sample, index: int) -> Sample:
        return Sample(sample.image[:1], sample.targets)

    @staticmethod
    def noisy(sample: Sample, index: int) -> Sample:
        return Sample((sample.image + 0.1 * torch.rand(3, *SIZE)).clamp(max=1), sample.targets)

    @staticmethod
    def classes_as_floats(sample: Sample, index: int) -> Sample:
        return Sample(sample.image, sample.targets | {"segmentation": sample.targets["segmentation"].float()})

    @staticmethod
    def depth_without_channel(sample: Sample, index: int) -> Sample:
        return Sample(sample.image, sample.targets | {"depth": sample.targets["depth"][0]})

    @staticmethod
    def class_too_high(sample: Sample, index: int) -> Sample:
        return Sample(sample.image, sample.targets | {"segmentation": sample.targets["segmentation"] + 4})

    @staticmethod
    def long_normals(sample: Sample, index: int) -> Sample:
        return Sample(sample.image, sample.targets | {"normals": sample.targets["normals"] * 2})

    @staticmethod
    def no_depth(sample: Sample, index: int) -> Sample:
        return Sample(sample.image, sample.targets | {"depth": torch.zeros(1, *SIZE)})

    @staticmethod
    def left_out(sample: Sample, index: int) -> Sample:
        return Sample(sample.image, {name: t for name, t in sample.targets.items() if name != "depth"})

    @staticmethod
    def ignored_as_255(sample: Sample, index: int) -> Sample:
        return Sample(sample.image, sample.targets | {"segmentation": torch.full(SIZE, 255)})

    @staticmethod
    def unknown_task(sample: Sample, index: int) -> Sample:
        return Sample(sample.image, sample.targets | {"albedo": sample.image})

    @staticmethod
    def sizes_differ(sample: Sample, index: int) -> Sample:
        return sample if index == 0 else Sample(sample.image[:, :8], sample.targets)


@plugin
class Faulty:
    """The toy data set with a fault in every sample."""

    fault: str = field(metadata=help("what is wrong"))

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        return Changed(split, getattr(Faults, self.fault))


@plugin
class OneSplit:
    """Gives training samples for every split."""

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        return Shapes(4, SIZE, "train")


class WithValidation(DatasetContract):
    splits = ("train", "val", "test")


def test_a_split_that_is_not_named_is_found() -> None:
    (found,) = failures(WithValidation, ToyData()).values()
    assert "the hook name_splits does not name ['val']" in str(found)


class Cached(Shapes):
    def __init__(self, split: str) -> None:
        super().__init__(4, SIZE, split)
        self.cache: dict[int, Sample] = {}

    def __getitem__(self, index: int) -> Sample:
        return self.cache.setdefault(index, super().__getitem__(index))


@plugin
class Shared:
    """Hands out the samples of its cache."""

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        return Cached(split)


@plugin
class Attributes:
    """The toy data set with other attributes."""

    attribute: str = field(metadata=help("which one"))

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        data = Shapes(4, SIZE, split)
        values = {
            "names": ("a", "b", "a", "c"),
            "labelled": torch.ones(4, 2, dtype=torch.bool),
            "tasks": data.tasks.select(("depth", "normals") if split == "test" else data.tasks.names),
            "hook": lambda: None,
            "samples": 0,
        }
        setattr(data, self.attribute, values[self.attribute])
        return data


@pytest.mark.parametrize(
    ("broken", "check", "message"),
    [
        (Faulty(fault="bytes_as_floats"), "test_images_are_rgb", "expected 0 to 1"),
        (Faulty(fault="grey"), "test_images_are_rgb", r"expected \(3, H, W\)"),
        (Faulty(fault="noisy"), "test_same_index_same_sample", "not the same"),
        (Shared(), "test_same_index_same_sample", "when read again"),
        (Faulty(fault="classes_as_floats"), "test_labels_are_as_their_tasks_define_them", "float32"),
        (Faulty(fault="depth_without_channel"), "test_labels_are_as_their_tasks_define_them", "depth: label"),
        (Faulty(fault="unknown_task"), "test_labels_are_as_their_tasks_define_them", "albedo"),
        (Faulty(fault="class_too_high"), "test_label_values_are_possible", "there are 4"),
        (Faulty(fault="ignored_as_255"), "test_label_values_are_possible", "write −1, not 255"),
        (Faulty(fault="long_normals"), "test_label_values_are_possible", "not of length 1"),
        (Faulty(fault="no_depth"), "test_labels_have_valid_pixels", "depth: no valid pixel"),
        (Faulty(fault="left_out"), "test_missing_labels_are_in_its_mask", "no label depth"),
        (Faulty(fault="sizes_differ"), "test_samples_fit_in_a_batch", "equal size"),
        (OneSplit(), "test_splits_differ", "same image"),
        (Attributes(attribute="names"), "test_names_are_unique", "one name"),
        (Attributes(attribute="labelled"), "test_missing_labels_are_in_its_mask", r"\(4, 2\)"),
        (Attributes(attribute="tasks"), "test_splits_have_the_same_tasks", "tasks by split"),
        (Attributes(attribute="hook"), "test_travels_to_a_worker", "pickle|local"),
        (Attributes(attribute="samples"), "test_is_a_data_set", "no sample"),
    ],
)
def test_a_faulty_data_set_is_rejected(broken: Any, check: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        getattr(DatasetContract(), check)(broken)


def test_a_sound_data_set_passes_every_check() -> None:
    assert failures(DatasetContract, ToyData(samples=4, size=SIZE)) == {}


class OneEach(Shapes):
    """One label per sample; the others are absent."""

    def __init__(self, split: str) -> None:
        super().__init__(4, SIZE, split)
        self.labelled = torch.eye(3, dtype=torch.bool).repeat(2, 1)[:4]

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        name = self.tasks.names[index % 3]
        return Sample(sample.image, {name: sample.targets[name]})


@plugin
class OnlySomeLabels:
    """The toy data set where most labels do not exist."""

    @hookimpl
    def build_dataset(self, split: str) -> MultiTaskDataset:
        return OneEach(split)


def test_a_data_set_whose_labels_are_absent_where_it_says_so_passes_every_check() -> None:
    assert failures(DatasetContract, OnlySomeLabels()) == {}


@plugin
class Half:
    """Every label with one half chance."""

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks, generator: torch.Generator) -> Tensor:
        return torch.rand(size, len(tasks), generator=generator) < 0.5


@plugin
class Floats:
    """Ones and zeros in place of a mask."""

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks) -> Tensor:
        return torch.ones(size, len(tasks))


@plugin
class Transposed:
    """Tasks first."""

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks) -> Tensor:
        return torch.ones(len(tasks), size, dtype=torch.bool)


@plugin
class Unseeded:
    """Draws from the global generator."""

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks) -> Tensor:
        return torch.rand(size, len(tasks)) < 0.5


@plugin
class Remembering:
    """Draws once, and adds to what it drew."""

    def __attrs_post_init__(self) -> None:
        self.calls = 0

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks) -> Tensor:
        self.calls += 1
        return torch.arange(size)[:, None] % len(tasks) == (torch.arange(len(tasks)) + self.calls) % len(tasks)


@plugin
class Named:
    """Cannot do without names."""

    @hookimpl
    def make_label_mask(self, size: int, tasks: Tasks, names: Sequence[str] | None) -> Tensor:
        return torch.tensor([[len(name) > 0 for _ in tasks] for name in names or ()])


@pytest.mark.parametrize(
    ("broken", "check", "message"),
    [
        (Floats(), "test_is_a_mask_of_samples_and_tasks", "float32"),
        (Transposed(), "test_is_a_mask_of_samples_and_tasks", r"expected torch.bool \(1, 2\)"),
        (Named(), "test_is_a_mask_of_samples_and_tasks", "returned"),
        (Unseeded(), "test_draws_from_its_generator_only", "differ"),
        (Remembering(), "test_remembers_nothing", "call 2"),
        (ToyLabels(), "test_another_generator_gives_another_mask", "random = True"),
        (ToyLabels(never=("depth",)), "test_labels_are_spread_over_the_tasks", "depth"),
    ],
)
def test_a_faulty_label_mask_is_rejected(broken: Any, check: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        getattr(LabelMaskContract(), check)(broken)


def test_a_sound_label_mask_passes_every_check() -> None:
    assert failures(LabelMaskContract, Half()) == {}


def test_a_fixed_label_mask_says_so() -> None:
    class Fixed(LabelMaskContract):
        random = False

    assert failures(Fixed, ToyLabels()) == {}
    assert list(failures(Fixed, Half())) == ["test_another_generator_gives_another_mask"]
