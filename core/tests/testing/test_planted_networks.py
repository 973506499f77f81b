"""Faults planted in a right network: the contract finds each of them and says what it is."""

import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.testing import BackboneContract, failures

C = 6


class Net(BackboneContract):
    image_size = (16, 24)
    task_names = ("segmentation", "depth", "edges")


class Encoder(nn.Module):
    """A right encoder: z has the image's size."""

    channels: Any = C

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, C, 3, padding=1)
        self.second = nn.Conv2d(C, C, 3, padding=1)
        self.norm = nn.GroupNorm(2, C)

    def forward(self, images):
        return self.second(self.norm(self.first(images)).relu())


class Head(nn.Module):
    """A right head, of tasks per image too."""

    def __init__(self, task, image_size):
        super().__init__()
        self.layer = nn.Conv2d(C, task.channels, 3, padding=1)
        self.task = task

    def forward(self, z):
        found = self.layer(z)
        return found if self.task.dense else found.mean((2, 3))


def make(encoder=Encoder, head=Head, heads=None) -> Any:
    def build_backbone(self):
        return encoder()

    def build_heads(self, backbone, tasks, image_size):
        if heads is not None:
            return heads(backbone, tasks, image_size)
        return nn.ModuleDict({task.name: head(task, image_size) for task in tasks})

    body = {"build_backbone": hookimpl(build_backbone), "build_heads": hookimpl(build_heads)}
    return plugin(type("Planted", (), {"__doc__": "A network.", **body}))()


FAULTS: dict[str, tuple[Any, str, str]] = {}


def fault(check, words):
    """A class is planted as encoder or head; a function as ``heads``."""

    def add(part):
        place = "heads"
        if isinstance(part, type):
            place = "encoder" if issubclass(part, Encoder) else "head"
        FAULTS[part.__name__] = (make(**{place: part}), f"test_{check}", words)
        return part

    return add


@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers")
class CountsForwardPasses(Encoder):
    count = 0

    def forward(self, images):
        self.count += 1
        return super().forward(images) * min(1.0, self.count / 10)


@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers")
class KeepsAnAverage(Encoder):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()), persistent=False)

    def forward(self, images):
        z = super().forward(images)
        if self.training:
            self.mean = 0.9 * self.mean + z.detach().mean()
        return z - self.mean


@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers")
class HeadWithState(Head):
    def forward(self, z):
        self.calls = getattr(self, "calls", 0) + 1
        return super().forward(z) + self.calls


@fault("weights_can_be_saved_and_loaded", "something else")
class RandomButNotSaved(Head):
    def __init__(self, task, image_size):
        super().__init__(task, image_size)
        self.shift = float(torch.randn(()))

    def forward(self, z):
        return super().forward(z) + self.shift


@fault("keeps_no_graph", "keeps the graph alive: .*last")
class KeepsZ(Encoder):
    def forward(self, images):
        self.last = super().forward(images)
        return self.last * 1


@fault("keeps_no_graph", "keeps the graph alive")
class KeepsItsPrediction(Head):
    def forward(self, z):
        self.last = super().forward(z)
        return self.last


@fault("leaves_the_backward_pass_to_core", r"calls backward\(\)")
class CallsBackward(Encoder):
    def forward(self, images):
        z = super().forward(images)
        z.square().mean().backward(retain_graph=True)
        return z


@fault("heads_give_what_losses_take", "segmentation: .*softmax")
class Softmax(Head):
    def forward(self, z):
        found = super().forward(z)
        return found.softmax(1) if self.task.name == "segmentation" else found


@fault("heads_give_what_losses_take", "edges: .*sigmoid")
class Sigmoid(Head):
    def forward(self, z):
        found = super().forward(z)
        return found.sigmoid() if self.task.name == "edges" else found


def shared(backbone, tasks, image_size):
    common = nn.Conv2d(C, C, 1)
    return nn.ModuleDict({t.name: nn.Sequential(common, Head(t, image_size)) for t in tasks})


FAULTS["heads_share_a_layer"] = (make(heads=shared), "test_heads_share_nothing", "the loss of .* reaches heads")


class KeepsImages(Encoder):
    def forward(self, images):
        self.images = images
        return super().forward(images)


def looks_back(backbone, tasks, image_size):
    class Back(Head):
        def forward(self, z):
            return super().forward(z) + self.backbone[0].images.mean(1, keepdim=True)

    made = nn.ModuleDict({task.name: Back(task, image_size) for task in tasks})
    for head in made.values():
        head.backbone = [backbone]
    return made


FAULTS["heads_see_the_images"] = (make(KeepsImages, heads=looks_back), "test_heads_see_nothing_but_z", "sees more of")


@fault("heads_begin_with_no_in_place_operation", "in-place|another z|inplace")
class BeginsInPlace(Head):
    def forward(self, z):
        return super().forward(F.relu(z, inplace=True))


@fault("takes_odd_sizes", "33 × 47")
class Halves(Encoder):
    def forward(self, images):
        return F.interpolate(super().forward(F.avg_pool2d(images, 2)), scale_factor=2)


@fault("takes_odd_sizes", "33 × 47")
class SkipConnection(Encoder):
    def forward(self, images):
        z = super().forward(images)
        return z + F.interpolate(F.max_pool2d(z, 4), scale_factor=4)


@fault("takes_odd_sizes", "33 × 47")
class KnowsTheImageSize(Head):
    def forward(self, z):
        found = super().forward(z)
        return F.interpolate(found, (16, 24)) if self.task.dense else found


@fault("takes_one_image", r"expected \(1,")
class SqueezesTheBatchAway(Head):
    def forward(self, z):
        return super().forward(z).squeeze(0)


@fault("takes_one_image", "a batch of one image in training")
class NormalisesPooledFeatures(Encoder):
    def __init__(self):
        super().__init__()
        self.pooled = nn.BatchNorm2d(C)

    def forward(self, images):
        z = super().forward(images)
        return z + self.pooled(z.mean((2, 3), keepdim=True))


def three(backbone, tasks, image_size):
    layer = [Head(task, image_size) for task in tasks[:3]]
    return nn.ModuleDict({task.name: layer[k] for k, task in enumerate(tasks)})


FAULTS["makes_three_heads"] = (make(heads=three), "test_works_for_any_number_of_tasks", "K = 5")


def by_name(backbone, tasks, image_size):
    known = {"segmentation": 5, "depth": 1, "edges": 1}
    return nn.ModuleDict({task.name: nn.Conv2d(C, known[task.name], 1) for task in tasks})


FAULTS["knows_the_tasks_names"] = (make(heads=by_name), "test_works_for_any_number_of_tasks", "K = 3.*KeyError")


def five_classes(backbone, tasks, image_size):
    made = {task.name: Head(task, image_size) for task in tasks}
    made["segmentation"].layer = nn.Conv2d(C, 7, 1)
    return nn.ModuleDict(made)


FAULTS["knows_the_number_of_classes"] = (
    make(heads=five_classes),
    "test_every_task_has_a_prediction_of_its_shape",
    "segmentation: .*expected",
)


@fault("backbone_names_its_channels", "backbone.channels is")
class NamesNoChannels(Encoder):
    channels = None


@fault("backbone_names_its_channels", "backbone.channels is")
class NamesOtherChannels(Encoder):
    channels = C + 1


@fault("every_parameter_is_trained", "parameters without gradient")
class HasAnIdleLayer(Encoder):
    def __init__(self):
        super().__init__()
        self.spare = nn.Conv2d(3, C, 1)


@fault("every_parameter_is_trained", "parameters without gradient")
class DetachesZ(Encoder):
    def forward(self, images):
        return super().forward(images).detach()


@fault("leaves_images_as_they_were", "images was changed in place")
class NormalisesInPlace(Encoder):
    def forward(self, images):
        return super().forward(images.sub_(0.5))


@fault("evaluation_is_deterministic", "two evaluations")
class DropsOutInEvaluation(Encoder):
    def forward(self, images):
        return F.dropout(super().forward(images))


@fault("images_do_not_see_each_other_in_evaluation", "depends on the batch")
class NormalisesOverTheBatch(Encoder):
    def forward(self, images):
        z = super().forward(images)
        return z / z.std()


@fault("follows_the_precision", "float32|dtype|type")
class MakesFloat32(Head):
    def forward(self, z):
        return super().forward(z).float()


@fault("same_seed_same_network", "the weights differ")
class DrawsFromItsOwnGenerator(Encoder):
    made = 0

    def __init__(self):
        super().__init__()
        DrawsFromItsOwnGenerator.made += 1
        nn.init.normal_(self.first.weight, generator=torch.Generator().manual_seed(self.made))


@fault("same_seed_same_network", "another seed gives the same weights")
class SeedsItself(Encoder):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__()


@fault("runs_on_the_meta_device", "read on the host")
class ReadsAValue(Encoder):
    def forward(self, images):
        z = super().forward(images)
        return z / max(1.0, z.abs().max().item())


@fault("runs_on_the_meta_device", "read on the host")
class ReadsAValueNowAndThen(Encoder):
    count = 0

    def forward(self, images):
        self.count += 1
        z = super().forward(images)
        if self.count % 5 == 0:
            float(z.sum())
        return z


@fault("runs_on_the_meta_device", "another device")
class MakesATensorOnTheHost(Encoder):
    def forward(self, images):
        return super().forward(images) + torch.linspace(0, 1, images.shape[-1])


@fault("runs_on_the_meta_device", "another device")
class KeepsAConstantOnTheHost(Head):
    def __init__(self, task, image_size):
        super().__init__(task, image_size)
        self.grid = torch.ones(image_size)

    def forward(self, z):
        found = super().forward(z)
        return found * self.grid if self.task.dense else found


@fault("takes_one_image", r"expected \(1,")
class RepeatsToTwo(Head):
    def forward(self, z):
        found = super().forward(z)
        return torch.cat((found, found))[:2]


@fault("runs_in_half_precision", "autocast to bfloat16")
class WritesIntoFloat32(Head):
    def forward(self, z):
        found = super().forward(z)
        out = torch.zeros(found.shape, device=found.device, dtype=self.layer.weight.dtype)
        return torch.index_add(out, 0, torch.arange(len(found), device=found.device), found)


@pytest.mark.parametrize("name", list(FAULTS))
def test_the_fault_is_named(name: str) -> None:
    planted, check, words = FAULTS[name]
    with pytest.raises(Exception, match=re.compile(words, re.DOTALL)):
        getattr(Net(), check)(planted)


def test_a_known_gap_is_one() -> None:
    """Whether a head bounds depth is its author's choice, even where the data are not bounded like that."""

    class Bounded(Head):
        def forward(self, z):
            found = super().forward(z)
            return found.sigmoid() if self.task.name == "depth" else found

    assert failures(Net, make(head=Bounded)) == {}


class Pyramid(Encoder):
    channels = (C, C)

    def forward(self, images):
        z = super().forward(images)
        return z, F.avg_pool2d(z, 2, ceil_mode=True)


class OfPyramid(Head):
    def forward(self, z):
        fine, coarse = z
        return super().forward(fine + F.interpolate(coarse, fine.shape[-2:]))


@pytest.mark.parametrize("plugin", [make(), make(Pyramid, OfPyramid)])
def test_what_is_right_passes(plugin: Any) -> None:
    assert failures(Net, plugin) == {}
