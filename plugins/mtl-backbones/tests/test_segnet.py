"""SegNet as a plugin."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from mtl_backbones import SegNet
from mtl_core import MtlError
from mtl_core.testing import BackboneContract, make_tasks


class TestSegNet(BackboneContract):
    task_names = ("segmentation", "depth", "normals", "scene")
    image_size = (33, 47)

    @pytest.fixture
    def plugin(self) -> SegNet:
        return SegNet(width=4)


class TestGroupNorm(BackboneContract):
    @pytest.fixture
    def plugin(self) -> SegNet:
        return SegNet(width=4, norm="group")

    def test_training_too_sees_each_image_alone(self, plugin):
        network = self.build(plugin).double()
        images = self.images().double()
        alone = network(images[:1])
        together = network(images)
        for name in alone:
            torch.testing.assert_close(together[name][:1], alone[name])


def build(size=(32, 32), **options):
    plugin = SegNet(**{"width": 4, **options})
    backbone = plugin.build_backbone(image_size=size, in_channels=3)
    return backbone, plugin.build_heads(backbone=backbone, tasks=make_tasks("segmentation", "depth", "scene"))


def test_backbone_tells_what_regularizers_size_their_networks_by():
    backbone, _ = build(width=6, norm="group")
    assert (backbone.width, backbone.norm) == (6, "group")


def test_dense_heads_are_two_convolutions_and_nothing_else():
    _, heads = build()
    kinds = [(type(m), m.kernel_size, m.out_channels) for m in heads["segmentation"].children()]
    assert kinds == [(nn.Conv2d, (3, 3), 4), (nn.Conv2d, (1, 1), 5)]


def test_head_of_an_image_task_averages_over_the_image():
    _, heads = build()
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    shuffled = z.flatten(2)[:, :, torch.randperm(64, generator=torch.Generator().manual_seed(1))].view_as(z)
    torch.testing.assert_close(heads["scene"](shuffled), heads["scene"](z))
    assert heads["scene"](z).shape == (2, 4)


@pytest.mark.parametrize("size", [(31, 64), (64, 31), (1, 1)])
def test_images_that_would_vanish_are_refused(size):
    with pytest.raises(MtlError, match=rf"segnet: images of {size[0]} × {size[1]} pixels.*at least 32 × 32"):
        build(size)


def test_smallest_image_works():
    backbone, _ = build((32, 32))
    assert backbone(torch.rand(2, 3, 32, 32)).shape == (2, 4, 32, 32)


def test_heads_refuse_a_pyramid():
    backbone = nn.Identity()
    backbone.channels = (8, 16)
    with pytest.raises(MtlError, match=r"one tensor.*Identity has channels \(8, 16\).*build_heads"):
        SegNet().build_heads(backbone=backbone, tasks=make_tasks("depth"))


@pytest.mark.parametrize(("option", "value"), [("width", 0), ("width", -1), ("norm", "layer")])
def test_options_out_of_range(option, value):
    with pytest.raises(ValueError, match=f"'{option}' must be"):
        SegNet(**{option: value})


def test_needs_no_encoder_library():
    code = (
        "import sys; from mtl_backbones import SegNet;"
        "print([m for m in ('timm', 'segmentation_models_pytorch') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
