"""The contracts of what changes images pass what is sound and reject what is not."""

from typing import Any

import pytest
import torch
from attrs import field
from torch import Tensor, nn

from mtl_core.data.sample import Sample
from mtl_core.errors import ContractError
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.options.fields import help
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing import AugmentContract, TransformContract, failures


def mirrored(sample: Sample, tasks: Tasks | None = None) -> Sample:
    targets = {name: target.flip(-1) for name, target in sample.targets.items()}
    if "normals" in targets:
        targets["normals"] = targets["normals"] * torch.tensor([-1.0, 1, 1]).view(3, 1, 1)
    return Sample(sample.image.flip(-1), targets)


@plugin
class Mirror:
    """Mirrors every other sample."""

    chance: float = field(default=0.5, metadata=help("share of samples that are mirrored"))

    @hookimpl
    def transform_sample(self, sample: Sample, generator: torch.Generator) -> Sample | None:
        return mirrored(sample) if torch.rand((), generator=generator) < self.chance else None


@plugin
class ImageOnly:
    """Mirrors the image and forgets its labels."""

    @hookimpl
    def transform_sample(self, sample: Sample) -> Sample:
        return Sample(sample.image.flip(-1), sample.targets)


@plugin
class ZoomsTheImage:
    """Enlarges the image by a fifth and forgets its labels."""

    @hookimpl
    def transform_sample(self, sample: Sample) -> Sample:
        h, w = sample.image.shape[-2:]
        middle = sample.image[:, h // 12 : h - h // 12, w // 12 : w - w // 12].float()
        return Sample(nn.functional.interpolate(middle[None], (h, w), mode="bilinear")[0], sample.targets)


@plugin
class Unseeded:
    """Draws from the global generator."""

    @hookimpl
    def transform_sample(self, sample: Sample) -> Sample | None:
        return mirrored(sample) if torch.rand(()) < 0.5 else None


@plugin
class InPlace:
    """Writes into the sample that it was given."""

    @hookimpl
    def transform_sample(self, sample: Sample) -> Sample:
        sample.image.mul_(0.5)
        return sample


@plugin
class Module(nn.Module):
    """Is an nn.Module, which no worker should get."""

    @hookimpl
    def transform_sample(self, sample: Sample) -> Sample:
        return mirrored(sample)


@plugin
class Revealing:
    """Adds to every depth, and so to blank ones."""

    @hookimpl
    def transform_sample(self, sample: Sample) -> Sample:
        return Sample(sample.image, sample.targets | {"depth": sample.targets["depth"] + 1})


@plugin
class Blurred:
    """Resamples classes as if they were numbers."""

    @hookimpl
    def transform_sample(self, sample: Sample) -> Sample:
        classes = sample.targets["segmentation"]
        between = (classes + classes.roll(1, -1)) // 2
        return Sample(sample.image, sample.targets | {"segmentation": between})


@plugin
class Averaged:
    """Averages normals and leaves them short."""

    @hookimpl
    def transform_sample(self, sample: Sample) -> Sample:
        return Sample(sample.image, sample.targets | {"normals": sample.targets["normals"] * 0.9})


@plugin
class Cropped:
    """Cuts the image and leaves it small."""

    @hookimpl
    def transform_sample(self, sample: Sample) -> Sample:
        return Sample(sample.image[:, :16], {name: t[..., :16, :] for name, t in sample.targets.items()})


@plugin
class ToFloat:
    """Turns bytes into floats."""

    @hookimpl
    def transform_sample(self, sample: Sample) -> Sample:
        return Sample(sample.image.float(), sample.targets)


@plugin
class Sharpened:
    """Leaves the range of images."""

    @hookimpl
    def transform_sample(self, sample: Sample) -> Sample:
        return Sample(sample.image * 3 - 1, sample.targets)


@pytest.mark.parametrize(
    ("broken", "check", "message"),
    [
        (ImageOnly(), "test_labels_move_with_the_image", "agree with the image at"),
        (ZoomsTheImage(), "test_labels_move_with_the_image", "agree with the image at"),
        (Unseeded(), "test_draws_from_its_generator_only", "differ"),
        (Averaged(), "test_draws_from_its_generator_only", "changes nothing"),
        (InPlace(), "test_leaves_its_input_as_it_was", "image was changed in place"),
        (Module(), "test_travels_to_a_worker", "nn.Module"),
        (Revealing(), "test_withheld_labels_stay_withheld", "depth"),
        (Blurred(), "test_invents_no_class", "nearest"),
        (Averaged(), "test_labels_stay_as_their_tasks_define_them", "not of length 1"),
        (Cropped(), "test_keeps_shapes_and_types", "expected a Sample as it was given"),
        (ToFloat(), "test_takes_images_in_bytes", "float32"),
        (Sharpened(), "test_image_stays_within_its_range", "expected 0 to 1"),
    ],
)
def test_a_faulty_transformation_is_rejected(broken: Any, check: str, message: str) -> None:
    with pytest.raises((AssertionError, ContractError), match=message):
        getattr(TransformContract(), check)(broken)


def test_a_sound_transformation_passes_every_check() -> None:
    assert failures(TransformContract, Mirror()) == {}


@plugin
class Brightness:
    """Makes every batch darker by one random factor."""

    @hookimpl
    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return images * torch.rand((), generator=generator).item()


@plugin
class Bright:
    """Leaves the range of images."""

    @hookimpl
    def augment(self, images: Tensor) -> Tensor:
        return images * 1.5


@plugin
class Stretched:
    """Divides by the contrast."""

    @hookimpl
    def augment(self, images: Tensor) -> Tensor:
        low = images.amin((1, 2, 3), keepdim=True)
        high = images.amax((1, 2, 3), keepdim=True)
        return (images - low) / (high - low)


@plugin
class Overwriting:
    """Writes into the images that it was given."""

    @hookimpl
    def augment(self, images: Tensor) -> Tensor:
        return images.mul_(0.5)


@plugin
class GlobalNoise:
    """Draws noise from the global generator."""

    @hookimpl
    def augment(self, images: Tensor) -> Tensor:
        return (images + torch.rand(images.shape, device=images.device)).clamp(max=1)


@plugin
class Synchronous:
    """Asks the device for a number."""

    @hookimpl
    def augment(self, images: Tensor) -> Tensor:
        return images * 0.5 if images.mean().item() > 0.5 else images


@plugin
class OnTheHost:
    """Mixes in a picture that stays on the host."""

    @hookimpl
    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return (images + torch.rand(images.shape, generator=generator)) / 2


@plugin
class Counting:
    """Darkens every second batch."""

    def __attrs_post_init__(self) -> None:
        self.calls = 0

    @hookimpl
    def augment(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images / (1 + self.calls % 2)


@plugin
class Grey:
    """Leaves one channel."""

    @hookimpl
    def augment(self, images: Tensor) -> Tensor:
        return images.mean(1, keepdim=True)


@pytest.mark.parametrize(
    ("broken", "check", "message"),
    [
        (Bright(), "test_images_stay_within_0_and_1", "values"),
        (Stretched(), "test_takes_flat_images", "not finite"),
        (Overwriting(), "test_leaves_its_input_as_it_was", "changed in place"),
        (GlobalNoise(), "test_draws_from_its_generator_only", "differ"),
        (Bright(), "test_draws_from_its_generator_only", "changes nothing"),
        (Synchronous(), "test_runs_on_the_meta_device", "meta"),
        (OnTheHost(), "test_runs_on_the_meta_device", "device|meta"),
        (Counting(), "test_remembers_nothing", "call 2"),
        (Grey(), "test_keeps_shape_and_type", "expected images like those"),
    ],
)
def test_a_faulty_augmentation_is_rejected(broken: Any, check: str, message: str) -> None:
    with pytest.raises((AssertionError, RuntimeError, ContractError), match=message):
        getattr(AugmentContract(), check)(broken)


def test_a_sound_augmentation_passes_every_check() -> None:
    assert failures(AugmentContract, Brightness()) == {}
