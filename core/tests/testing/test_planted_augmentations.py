"""Faults planted in a right augmentation: the contract finds each of them and says what it is."""

import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.testing import AugmentContract, failures


class Augment(AugmentContract):
    image_size = (16, 24)


def brightness(images, generator):
    """A factor per image: what a right augmentation does."""
    factors = 0.5 + torch.rand((len(images), 1, 1, 1), generator=generator)
    return (images * factors.to(images.device)).clamp(0, 1)


def make(augment, setup=None) -> Any:
    body = {"__doc__": "An augmentation.", "augment": hookimpl(augment)}
    if setup is not None:
        body["setup"] = hookimpl(setup)
    return plugin(type("Planted", (nn.Module,) if setup else (), body))()


FAULTS: dict[str, tuple[Any, str, str]] = {}


def fault(check, words, **parts):
    def add(augment):
        FAULTS[augment.__name__] = (make(augment, **parts), f"test_{check}", words)
        return augment

    return add


@fault("keeps_shape_and_type", "expected .*images like")
def crops(self, images, generator):
    return brightness(images, generator)[..., 1:, 1:]


@fault("keeps_shape_and_type", "images became torch.float64")
def makes_doubles(self, images, generator):
    return brightness(images, generator).double()


@fault("keeps_shape_and_type", "images like those that it was given")
def makes_bytes(self, images, generator):
    return (brightness(images, generator) * 255).to(torch.uint8)


@fault("keeps_shape_and_type", r"\(1, 3, 16, 24\)")
def squeezes_one_image(self, images, generator):
    return brightness(images, generator).squeeze(0)


@fault("images_stay_within_0_and_1", "seed 0|seed")
def overshoots(self, images, generator):
    return images * (0.5 + torch.rand((len(images), 1, 1, 1), generator=generator).to(images.device))


@fault("images_stay_within_0_and_1", "values")
def standardises(self, images, generator):
    return (brightness(images, generator) - 0.5) / 0.2


@fault("takes_flat_images", "not finite")
def divides_by_the_contrast(self, images, generator):
    spread = images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True)
    return ((images - images.amin((1, 2, 3), keepdim=True)) / spread * torch.rand((), generator=generator)).clamp(0, 1)


@fault("draws_from_its_generator_only", "generators of one seed differ")
def draws_from_torch(self, images):
    return (images * torch.rand(()).to(images.device)).clamp(0, 1)


@fault("draws_from_its_generator_only", "generators of one seed differ")
def draws_from_numpy(self, images):
    return (images * float(np.random.rand())).clamp(0, 1)


@fault("draws_from_its_generator_only", "generators of one seed differ")
def draws_from_python(self, images):
    return (images * random.random()).clamp(0, 1)


@fault("draws_from_its_generator_only", "the generator's seed changes nothing")
def does_the_same_always(self, images):
    return images * 0.5


@fault("remembers_nothing", "call 2")
def alternates(self, images, generator):
    self.odd = not getattr(self, "odd", False)
    return images if self.odd else brightness(images, generator)


@fault("remembers_nothing", r"call \d")
def grows_stronger(self, images, generator):
    self.calls = getattr(self, "calls", 0) + 1
    return brightness(images, generator) * max(0.0, 1 - self.calls // 7)


@fault("leaves_its_input_as_it_was", "images was changed in place")
def works_in_place(self, images, generator):
    return images.mul_(0.5 + 0.5 * torch.rand((), generator=generator).to(images.device))


@fault("leaves_its_input_as_it_was", "images was changed in place")
def clamps_its_input(self, images, generator):
    images.clamp_(0.1, 0.9)
    return brightness(images, generator)


@fault("keeps_things_where_they_are", "lies elsewhere now")
def mirrors(self, images, generator):
    chosen = (torch.rand((len(images), 1, 1, 1), generator=generator) < 0.9).to(images.device)
    return torch.where(chosen, images.flip(-1), images)


@fault("keeps_things_where_they_are", "lies elsewhere now")
def shifts(self, images, generator):
    return brightness(images, generator).roll(8, -1)


@fault("keeps_things_where_they_are", "lies elsewhere now")
def turns_by_half_a_circle(self, images, generator):
    return brightness(images, generator).flip(-1, -2)


@fault("takes_odd_sizes", "33 × 47")
def works_in_blocks(self, images, generator):
    small = F.avg_pool2d(brightness(images, generator), 2)
    return F.interpolate(small, scale_factor=2).view(images.shape)


@fault("takes_odd_sizes", "33 × 47")
def knows_the_image_size(self, images, generator):
    return brightness(images, generator) * torch.linspace(0.9, 1, 24, device=images.device)


def learned(self, tasks):
    self.gain = nn.Parameter(torch.ones(()))


@fault("makes_no_gradient", "keeps the graph alive", setup=learned)
def learns(self, images, generator):
    return brightness(images, generator) * self.gain.clamp(0, 1)


@fault("runs_on_the_meta_device", "read on the host")
def reads_the_mean(self, images, generator):
    mean = images.mean().item()
    return brightness(images, generator) * min(1.0, 0.5 / max(mean, 0.5))


@fault("runs_on_the_meta_device", "read on the host")
def works_in_numpy(self, images, generator):
    return torch.from_numpy(brightness(images, generator).cpu().numpy() ** 2)


@fault("runs_on_the_meta_device", "read on the host")
def reads_now_and_then(self, images, generator):
    rare = torch.rand((), generator=generator).item() < 0.2
    scale = min(1.0, float(images.max()) + 1) if rare else 1.0
    return brightness(images, generator) * scale


@fault("runs_on_the_meta_device", "another device")
def leaves_its_draw_on_the_host(self, images, generator):
    return (images * (0.5 + 0.5 * torch.rand((len(images), 1, 1, 1), generator=generator))).clamp(0, 1)


@pytest.mark.parametrize("name", list(FAULTS))
def test_the_fault_is_named(name: str) -> None:
    planted, check, words = FAULTS[name]
    with pytest.raises(Exception, match=re.compile(words, re.DOTALL)):
        getattr(Augment(), check)(planted)


def test_a_known_gap_is_one() -> None:
    """Whether a picture is still a picture is for people to say."""

    def darkens_everything(self, images, generator):
        return brightness(images, generator) * 1e-3

    assert failures(Augment, make(darkens_everything)) == {}


def test_what_is_right_passes() -> None:
    def right(self, images, generator):
        return brightness(images, generator)

    assert failures(Augment, make(right)) == {}
