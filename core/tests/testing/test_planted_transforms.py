"""Faults planted in right changes of geometry: the contract finds each of them and says what it is."""

import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mtl_core.data.sample import Sample
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.testing import TransformContract, failures


class Transform(TransformContract):
    image_size = (16, 24)
    task_names = ("segmentation", "depth", "normals", "edges")


class Turner:
    """Mirrors, turns by half a circle and zooms into the middle, at random: a right change of geometry."""

    def prepare(self, tasks):
        self.tasks = tasks

    def __call__(self, sample, generator):
        mirrored, turned, zoomed = (torch.rand(3, generator=generator) < 0.5).tolist()
        found = sample
        if mirrored:
            found = self.mirror(found)
        if turned:
            found = self.turn(found)
        return self.zoom(found) if zoomed else found

    def targets(self, sample, change):
        return {
            name: change(self.tasks[name], target) if self.tasks[name].dense else target
            for name, target in sample.targets.items()
        }

    def mirror(self, sample):
        return Sample(sample.image.flip(-1), self.targets(sample, self.mirrored))

    def mirrored(self, task, target):
        return task.flip(target.flip(-1))

    def turn(self, sample):
        return Sample(sample.image.flip(-1, -2), self.targets(sample, self.turned))

    def turned(self, task, target):
        return task.rotate(target.flip(-1, -2), torch.pi)

    def zoom(self, sample):
        return Sample(enlarged(sample.image), self.targets(sample, self.zoomed))

    def zoomed(self, task, target):
        return task.zoom(enlarged(target), 2.0)


def enlarged(maps):
    """The middle of (C, H, W) or (H, W), twice as large, by nearest neighbours."""
    height, width = maps.shape[-2:]
    rows = (torch.arange(height) + 0.5).div(2).add(height / 4).long()
    columns = (torch.arange(width) + 0.5).div(2).add(width / 4).long()
    return maps[..., rows, :][..., columns]


def make(turner, base=()) -> Any:
    def setup(self, tasks):
        self.turner = turner()
        self.turner.prepare(tasks)

    def transform_sample(self, sample, generator):
        return self.turner(sample, generator)

    body = {"setup": hookimpl(setup), "transform_sample": hookimpl(transform_sample)}
    name = f"Planted{turner.__name__}"
    made = plugin(type(name, base, {"__doc__": "A transform.", "__module__": __name__, **body}))
    globals()[name] = made  # pickled by name
    return made()


FAULTS: dict[str, tuple[Any, str, str]] = {}


def fault(check, words):
    def add(turner):
        FAULTS[turner.__name__] = (make(turner), f"test_{check}", words)
        return turner

    return add


DEPTH, NORMALS = "depth agrees with the image", "normals agree with the image"


@fault("depth_and_normals_move_and_turn", DEPTH)
class DoesNotMirrorDepth(Turner):
    def mirrored(self, task, target):
        return target if task.name == "depth" else super().mirrored(task, target)


@fault("depth_and_normals_move_and_turn", NORMALS)
class DoesNotMirrorNormals(Turner):
    def mirrored(self, task, target):
        return target if task.name == "normals" else super().mirrored(task, target)


@fault("depth_and_normals_move_and_turn", NORMALS)
class MirrorsThePlaceOfNormalsAlone(Turner):
    def mirrored(self, task, target):
        return target.flip(-1)


@fault("depth_and_normals_move_and_turn", NORMALS)
class MirrorsTheWrongComponent(Turner):
    def mirrored(self, task, target):
        found = target.flip(-1)
        return found * torch.tensor([1.0, -1.0, 1.0])[:, None, None] if task.name == "normals" else found


@fault("depth_and_normals_move_and_turn", NORMALS)
class DoesNotTurnNormals(Turner):
    def turned(self, task, target):
        return target.flip(-1, -2)


@fault("depth_and_normals_move_and_turn", DEPTH)
class DoesNotTurnDepth(Turner):
    def turned(self, task, target):
        return target if task.name == "depth" else super().turned(task, target)


@fault("depth_and_normals_move_and_turn", DEPTH)
class DoesNotDivideDepth(Turner):
    def zoomed(self, task, target):
        return enlarged(target)


@fault("depth_and_normals_move_and_turn", DEPTH)
class MultipliesDepth(Turner):
    def zoomed(self, task, target):
        return enlarged(target) * 2.0 if task.name == "depth" else enlarged(target)


@fault("depth_and_normals_move_and_turn", DEPTH)
class DoesNotZoomDepth(Turner):
    def zoomed(self, task, target):
        return task.zoom(target, 2.0) if task.name == "depth" else super().zoomed(task, target)


@fault("labels_move_with_the_image", "classes agree with the image")
class DoesNotMirrorClasses(Turner):
    def mirrored(self, task, target):
        return target if task.name == "segmentation" else super().mirrored(task, target)


@fault("labels_move_with_the_image", "classes agree with the image")
class DoesNotMirrorTheImage(Turner):
    def mirror(self, sample):
        return Sample(sample.image, self.targets(sample, self.mirrored))


@fault("labels_move_with_the_image", "still have a label")
class BlanksEveryLabel(Turner):
    def zoom(self, sample):
        found = super().zoom(sample)
        return Sample(found.image, self.targets(found, lambda task, target: task.blank(target)))

    def __call__(self, sample, generator):
        return self.zoom(super().__call__(sample, generator))


@fault("invents_no_class", "resample by nearest")
class AveragesClasses(Turner):
    def zoomed(self, task, target):
        if task.name != "segmentation":
            return super().zoomed(task, target)
        return F.avg_pool2d(target[None].float(), 3, 1, 1)[0].round().long()


@fault("labels_stay_as_their_tasks_define_them", "normals: .*length")
class AveragesNormals(Turner):
    def zoomed(self, task, target):
        found = super().zoomed(task, target)
        return F.avg_pool2d(found, 3, 1, 1) * 2 if task.name == "normals" else found


@fault("labels_stay_as_their_tasks_define_them", "edges: .*expected 0 to 1")
class ScalesEdges(Turner):
    def zoomed(self, task, target):
        found = super().zoomed(task, target)
        return found * 2 if task.name == "edges" else found


@fault("withheld_labels_stay_withheld", "has valid pixels now")
class FillsBlanks(Turner):
    def zoomed(self, task, target):
        found = super().zoomed(task, target)
        return found.nan_to_num(0.5) if task.name == "edges" else found


@fault("keeps_shapes_and_types", "expected a Sample as it was given")
class TurnsByAQuarter(Turner):
    def turn(self, sample):
        return Sample(sample.image.rot90(1, (-2, -1)), self.targets(sample, lambda task, t: t.rot90(1, (-2, -1))))


@fault("keeps_shapes_and_types", "became")
class MakesDoubles(Turner):
    def zoom(self, sample):
        found = super().zoom(sample)
        return Sample(found.image.double(), found.targets)


@fault("takes_images_in_bytes", "an image in bytes became")
class MakesFloats(Turner):
    def __call__(self, sample, generator):
        found = super().__call__(sample, generator)
        return Sample(found.image.float(), found.targets)


@fault("bytes_move_as_numbers_do", "became another one")
class LeavesBytesWhereTheyAre(Turner):
    def __call__(self, sample, generator):
        found = super().__call__(sample, generator)
        return Sample(sample.image, found.targets) if sample.image.dtype == torch.uint8 else found


@fault("image_stays_within_its_range", "expected 0 to 1")
class Overshoots(Turner):
    def zoom(self, sample):
        found = super().zoom(sample)
        return Sample(found.image * 1.5 - 0.25, found.targets)


@fault("draws_from_its_generator_only", "generators of one seed differ")
class DrawsFromTorch(Turner):
    def __call__(self, sample, generator):
        return self.mirror(sample) if torch.rand(()) < 0.5 else sample


@fault("draws_from_its_generator_only", "generators of one seed differ")
class DrawsFromNumpy(Turner):
    def __call__(self, sample, generator):
        return self.mirror(sample) if np.random.rand() < 0.5 else sample


@fault("draws_from_its_generator_only", "generators of one seed differ")
class DrawsFromPython(Turner):
    def __call__(self, sample, generator):
        return self.mirror(sample) if random.random() < 0.5 else sample


@fault("draws_from_its_generator_only", "the generator's seed changes nothing")
class DrawsNothing(Turner):
    def __call__(self, sample, generator):
        return self.mirror(sample)


@fault("remembers_nothing", "call 2")
class Alternates(Turner):
    odd = False

    def __call__(self, sample, generator):
        self.odd = not self.odd
        return self.mirror(sample) if self.odd else sample


@fault("remembers_nothing", "differs: .*depth")
class DamagesDepthLater(Turner):
    calls = 0

    def __call__(self, sample, generator):
        self.calls += 1
        found = super().__call__(sample, generator)
        if self.calls > 6:
            found.targets["depth"] = found.targets["depth"] + 1
        return found


@fault("leaves_its_input_as_it_was", "targets: .*replaced")
class ReplacesLabelsOfItsInput(Turner):
    def __call__(self, sample, generator):
        found = super().__call__(sample, generator)
        sample.targets["depth"] = found.targets["depth"].clone()
        return found


@fault("leaves_its_input_as_it_was", "sample: .*image.* replaced")
class ReplacesTheImageOfItsInput(Turner):
    def __call__(self, sample, generator):
        sample.image = sample.image.flip(-1)
        return Sample(sample.image, self.targets(sample, self.mirrored))


@fault("leaves_its_input_as_it_was", "image was changed in place")
class ChangesItsInput(Turner):
    def __call__(self, sample, generator):
        found = super().__call__(sample, generator)
        sample.image.mul_(0.5)
        return found


@fault("works_for_any_number_of_tasks", "K = 2.*normals")
class NeedsNormals(Turner):
    def __call__(self, sample, generator):
        found = super().__call__(sample, generator)
        found.targets["normals"] = found.targets["normals"] * 1
        return found


@fault("works_for_any_number_of_tasks", "K = 5.*became|K = 5")
class ForgetsOtherTasks(Turner):
    def __call__(self, sample, generator):
        found = super().__call__(sample, generator)
        known = ("segmentation", "depth", "normals", "edges")
        return Sample(found.image, {name: t for name, t in found.targets.items() if name in known})


@fault("takes_odd_sizes", "33 × 47")
class NeedsEvenSizes(Turner):
    def zoom(self, sample):
        h, w = sample.image.shape[-2:]
        half = [sample.image.view(3, h // 2, 2, w // 2, 2).mean((2, 4))]
        return super().zoom(sample) if half else sample


@fault("labels_per_image_stay", "a label of the whole image")
class ChangesTheScene(Turner):
    def __call__(self, sample, generator):
        found = super().__call__(sample, generator)
        if "scene" in found.targets:
            found.targets["scene"] = (found.targets["scene"] + 1) % 4
        return found


@fault("labels_per_image_stay", "a task per image")
class MirrorsTheScene(Turner):
    def targets(self, sample, change):
        return {name: change(self.tasks[name], target) for name, target in sample.targets.items()}


class HoldsAFunction(Turner):
    def prepare(self, tasks):
        super().prepare(tasks)
        self.read = lambda value: value


FAULTS["HoldsAFunction"] = (make(HoldsAFunction), "test_travels_to_a_worker", "pickle|lambda|local")


class Learner(Turner):
    """As a module."""


FAULTS["is_a_module"] = (make(Learner, (nn.Module,)), "test_travels_to_a_worker", "not sent to workers")


@pytest.mark.parametrize("name", list(FAULTS))
def test_the_fault_is_named(name: str) -> None:
    planted, check, words = FAULTS[name]
    with pytest.raises(Exception, match=re.compile(words, re.DOTALL)):
        getattr(Transform(), check)(planted)


def test_a_known_gap_is_one() -> None:
    """A mirror image that is upside down is no photograph, but a right sample."""

    class UpsideDown(Turner):
        def mirror(self, sample):
            return self.turn(super().mirror(sample))

    globals()["UpsideDown"] = UpsideDown
    UpsideDown.__qualname__ = "UpsideDown"
    assert failures(Transform, make(UpsideDown)) == {}


def test_what_is_right_passes() -> None:
    assert failures(Transform, make(Turner)) == {}
