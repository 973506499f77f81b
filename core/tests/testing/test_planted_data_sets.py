"""Faults planted in a right data set: the contract finds each of them and says what it is."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mtl_core.data.sample import Sample
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.seeds import generator_for
from mtl_core.tasks.classification import Classification
from mtl_core.tasks.edges import BinaryEdges
from mtl_core.tasks.normals import Normals
from mtl_core.tasks.regression import Depth
from mtl_core.tasks.segmentation import Segmentation
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing import DatasetContract, failures

SIZE = (12, 16)
TASKS = Tasks(
    [
        Segmentation(name="segmentation", channels=4),
        Depth(name="depth"),
        Normals(name="normals"),
        BinaryEdges(name="edges"),
        Classification(name="scene", channels=3),
    ]
)


class Right:
    """Random images with five labels that follow from them."""

    tasks = TASKS
    labelled = None
    names = None
    length = 20

    def __init__(self, split="train"):
        self.split = split
        self.offset = 0 if split == "train" else 1000

    def __len__(self):
        return self.length

    def image(self, index):
        coarse = torch.rand(1, 3, 4, 4, generator=generator_for(0, "image", index + self.offset))
        return F.interpolate(coarse, SIZE, mode="bilinear")[0]

    def labels(self, image, index):
        normals = F.normalize(torch.stack((image[0] - 0.5, image[1] - 0.5, -image[2] - 0.5)), dim=0)
        classes = (image[0] > 0.5).long() + 2 * (image[1] > 0.5).long()
        return {
            "segmentation": classes,
            "depth": 1 + image[2:3],
            "normals": normals,
            "edges": (image[:1] > 0.6).float(),
            "scene": torch.tensor(index % 3),
        }

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(index)
        image = self.image(index)
        return Sample(image, self.labels(image, index))


class Data(DatasetContract):
    image_size = SIZE


def make(dataset) -> Any:
    def build_dataset(self, split):
        return dataset(split)

    return plugin(type("Planted", (), {"__doc__": "A data set.", "build_dataset": hookimpl(build_dataset)}))()


FAULTS: dict[str, tuple[Any, str, str]] = {}


def fault(check, words):
    def add(dataset):
        globals()[dataset.__name__] = dataset  # pickled by name
        FAULTS[dataset.__name__] = (make(dataset), f"test_{check}", words)
        return dataset

    return add


def damaged(check, words, name, first=0):
    """A label is damaged from the sample ``first`` on."""

    def add(change):
        class Damaged(Right):
            def labels(self, image, index):
                found = super().labels(image, index)
                return found | {name: change(found[name])} if index >= first else found

        Damaged.__name__ = Damaged.__qualname__ = change.__name__
        fault(check, words)(Damaged)
        return change

    return add


FORM, VALUES = "labels_are_as_their_tasks_define_them", "label_values_are_possible"


@damaged(VALUES, "expected at most|class", "segmentation")
def has_a_class_too_many(label):
    return label + 1


@damaged(VALUES, "not 255", "segmentation")
def ignores_with_255(label):
    return torch.where(label == 0, 255, label)


@damaged(VALUES, "class", "segmentation", first=3)
def has_a_class_too_many_later(label):
    return label + 1


@damaged(FORM, "int32|expected torch.int64", "segmentation")
def has_classes_of_32_bits(label):
    return label.int()


@damaged(FORM, "float32", "segmentation")
def has_classes_as_floats(label):
    return label.float()


@damaged(FORM, "uint8", "segmentation", first=4)
def has_classes_in_bytes_later(label):
    return label.to(torch.uint8)


@damaged(FORM, "add the channel", "depth")
def has_depth_without_a_channel(label):
    return label[0]


@damaged(FORM, "float64", "depth", first=3)
def has_depth_in_double_precision_later(label):
    return label.double()


@damaged(FORM, "resize", "depth", first=5)
def has_depth_of_another_size_later(label):
    return label[..., ::2]


@damaged("labels_have_valid_pixels", "depth: no valid pixel", "depth")
def has_no_depth_at_all(label):
    return label * 0


@damaged("labels_have_valid_pixels", "depth: no valid pixel", "depth")
def has_depth_that_is_nan(label):
    return label * torch.nan


@damaged(VALUES, "not of length 1", "normals")
def has_normals_as_colours(label):
    return (label + 1) / 2 + 0.4


@damaged(VALUES, "not of length 1", "normals", first=3)
def has_long_normals_later(label):
    return 2 * label


@damaged(FORM, "channels first", "normals")
def has_channels_last(label):
    return label.permute(1, 2, 0).contiguous()


@damaged(VALUES, "expected 0 to 1", "edges")
def has_edges_of_255(label):
    return 255 * label


@damaged(VALUES, "expected 0 to 1", "edges", first=3)
def has_negative_edges_later(label):
    return 2 * label - 1


@damaged(VALUES, "class|expected at most", "scene")
def has_a_scene_too_many(label):
    return label + 1


@damaged(FORM, "scene", "scene")
def has_scenes_with_a_dimension(label):
    return label[None]


@fault(FORM, "which is no task")
class HasALabelWithoutATask(Right):
    def labels(self, image, index):
        return super().labels(image, index) | {"albedo": image}


@fault("missing_labels_are_in_its_mask", "no label depth")
class LacksALabelLater(Right):
    def labels(self, image, index):
        found = super().labels(image, index)
        if index >= 5:
            del found["depth"]
        return found


@fault("missing_labels_are_in_its_mask", "label mask torch.float32")
class HasAMaskOfNumbers(Right):
    @property
    def labelled(self):
        return torch.ones(len(self), len(TASKS))


@fault("missing_labels_are_in_its_mask", "label mask")
class HasAMaskOfAnotherLength(Right):
    @property
    def labelled(self):
        return torch.ones(len(self) + 1, len(TASKS), dtype=torch.bool)


@fault("splits_do_not_overlap", "the splits overlap")
class HasItsTrainingImagesInTesting(Right):
    def __init__(self, split):
        super().__init__("train")


@fault("splits_do_not_overlap", "the splits overlap")
class HasItsLastTrainingImagesInTesting(Right):
    def __init__(self, split):
        super().__init__(split)
        self.offset = 0 if split == "train" else 15


@fault("splits_differ", "begin with the same image")
class BeginsWithTheSameImage(Right):
    def image(self, index):
        self.offset = 0 if index == 0 or self.split == "train" else 1000
        return super().image(index)


@fault("splits_have_the_same_tasks", "tasks by split")
class HasOtherTasksInTesting(Right):
    @property
    def tasks(self):
        return TASKS if self.split == "train" else Tasks(list(TASKS)[:2])


@fault("samples_differ", "the same image")
class RepeatsItsFirstSample(Right):
    def image(self, index):
        return super().image(0)


@fault("samples_have_one_size", "pixels")
class HasImagesOfTwoSizes(Right):
    def image(self, index):
        found = super().image(index)
        return found if index < 4 else found[:, :10]


@fault("samples_have_one_size", "pixels")
class HasALastImageOfAnotherSize(Right):
    def image(self, index):
        found = super().image(index)
        return found if index < len(self) - 1 else found[:, :10]


@fault("every_sample_can_be_read", r"\[19\] of 20 samples cannot be read")
class IsShorterThanItSays(Right):
    def image(self, index):
        if index >= 18:
            raise IndexError("no such row")
        return super().image(index)


@fault("same_index_same_sample", "not the same when read again")
class FlipsAtRandom(Right):
    def image(self, index):
        found = super().image(index)
        return found.flip(-1) if torch.rand(()) < 0.5 else found


@fault("leaves_the_global_generators_alone", "torch's global generator")
class SeedsTorch(Right):
    def image(self, index):
        torch.manual_seed(index)
        return super().image(index)


@fault("leaves_the_global_generators_alone", "numpy's global generator")
class SeedsNumpy(Right):
    def image(self, index):
        np.random.seed(index)
        return super().image(index)


@fault("same_index_same_sample", "not the same when read again")
class HandsOutItsMemory(Right):
    def __init__(self, split):
        super().__init__(split)
        self.memory = {}

    def image(self, index):
        return self.memory.setdefault(index, super().image(index))


@fault("same_index_same_sample", "when read again")
class HandsOutItsSamples(Right):
    def __init__(self, split):
        super().__init__(split)
        self.memory = {}

    def __getitem__(self, index):
        if index not in self.memory:
            self.memory[index] = super().__getitem__(index)
        kept = self.memory[index]
        return Sample(kept.image.clone(), kept.targets)


@fault("images_are_rgb", "expected 0 to 1")
class HasBytesAsFloats(Right):
    def __getitem__(self, index):
        found = super().__getitem__(index)
        return Sample(found.image * 255, found.targets)


@fault("images_are_rgb", "expected uint8 or float32")
class HasImagesInDoublePrecision(Right):
    def image(self, index):
        return super().image(index).double()

    def labels(self, image, index):
        return super().labels(image.float(), index)


@fault("images_are_rgb", "expected 0 to 1")
class HasStandardisedImagesLater(Right):
    def __getitem__(self, index):
        found = super().__getitem__(index)
        return found if index < 3 else Sample((found.image - 0.5) / 0.2, found.targets)


@fault("images_are_rgb", r"expected \(3, H, W\)")
class HasGreyImages(Right):
    def __getitem__(self, index):
        found = super().__getitem__(index)
        return Sample(found.image[:1], found.targets)


@fault("images_are_rgb", r"expected \(3, H, W\)")
class HasChannelsLast(Right):
    def __getitem__(self, index):
        found = super().__getitem__(index)
        return Sample(found.image.permute(1, 2, 0), found.targets)


@fault("images_are_rgb", "an image of one colour")
class HasABlackImageLater(Right):
    def __getitem__(self, index):
        found = super().__getitem__(index)
        return found if index != 4 else Sample(found.image * 0, found.targets)


@fault("samples_have_no_gradient", "require a gradient")
class HasLabelsWithAGradient(Right):
    def labels(self, image, index):
        found = super().labels(image, index)
        return found | {"depth": found["depth"].requires_grad_()}


@fault("names_are_unique", "two samples have one name")
class HasANameTwice(Right):
    names = ["a"] * 20


@fault("names_are_unique", "names for 20 samples")
class HasTooFewNames(Right):
    names = ["a", "b"]


@fault("names_are_unique", "expected str")
class HasNumbersAsNames(Right):
    names = list(range(20))


@fault("travels_to_a_worker", "pickle|lambda|local")
class HoldsAFunction(Right):
    def __init__(self, split):
        super().__init__(split)
        self.read = lambda index: index


@fault("is_a_data_set", "no sample")
class IsEmpty(Right):
    length = 0


@fault("is_a_data_set", "expected a data set with tasks")
class HasAListOfTasks(Right):
    tasks = list(TASKS)


def slashed(split):
    tasks = Tasks([Segmentation(name="rooms/segmentation", channels=4)])
    return type("Slashed", (Right,), {"tasks": tasks})(split)


FAULTS["has_a_task_with_a_slash"] = (make(slashed), "test_is_a_data_set", "part of file names")


@pytest.mark.parametrize("name", list(FAULTS))
def test_the_fault_is_named(name: str) -> None:
    planted, check, words = FAULTS[name]
    with pytest.raises(Exception, match=re.compile(words, re.DOTALL)):
        getattr(Data(), check)(planted)


class DamagedInTheMiddle(Right):
    length = 200

    def labels(self, image, index):
        found = super().labels(image, index)
        return found if index != 77 else found | {"segmentation": found["segmentation"] + 9}


class Mirrored(Right):
    def labels(self, image, index):
        found = super().labels(image, index)
        return found | {"depth": found["depth"].flip(-1)}


GAPS = {
    "one sample of many is damaged; `mtl data check` reads all": DamagedInTheMiddle,
    "a label belongs to another place in the image: only a person sees it, `mtl data show`": Mirrored,
}


@pytest.mark.parametrize("reason", list(GAPS))
def test_a_known_gap_is_one(reason: str) -> None:
    assert failures(Data, make(GAPS[reason])) == {}


def test_what_is_right_passes() -> None:
    assert failures(Data, make(Right)) == {}
