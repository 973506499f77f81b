"""Decoders of dense tasks: the library's own network where that one works, any size elsewhere."""

import pytest
import segmentation_models_pytorch as library
import torch

from mtl_backbones import SMP
from mtl_core import MtlError
from mtl_core.testing import BackboneContract, make_tasks

SMALL = {"encoder": "resnet18", "dropout": 0.0}


class TestDeepLab(BackboneContract):
    trains_on_one_image = False  # batch norm behind a pooling over the image
    task_names = ("segmentation", "depth", "scene")
    image_size = (33, 47)

    @pytest.fixture
    def plugin(self) -> SMP:
        return SMP(head="deeplab", head_channels=8, output_stride=8, **SMALL)


class TestFPN(BackboneContract):
    task_names = ("segmentation", "depth", "scene")
    image_size = (33, 47)

    @pytest.fixture
    def plugin(self) -> SMP:
        return SMP(head="fpn", head_channels=64, output_stride=32, **SMALL)


class TestUNet(BackboneContract):
    task_names = ("segmentation", "depth", "scene")
    image_size = (33, 47)

    @pytest.fixture
    def plugin(self) -> SMP:
        return SMP(head="unet", head_channels=32, output_stride=32, **SMALL)


def build(size=(64, 96), tasks=("segmentation", "scene"), **options):
    torch.manual_seed(0)
    plugin = SMP(**{**SMALL, **options})
    backbone = plugin.build_backbone(image_size=size, in_channels=3)
    return backbone, plugin.build_heads(backbone=backbone, tasks=make_tasks(*tasks), image_size=size)


def theirs(head):
    """The library's whole network of a decoder."""
    common = {"encoder_weights": None, "classes": 5}
    return {
        "deeplab": lambda: library.DeepLabV3("resnet18", encoder_output_stride=8, decoder_channels=16, **common),
        "fpn": lambda: library.FPN(
            "resnet18", decoder_pyramid_channels=64, decoder_segmentation_channels=32, decoder_dropout=0.0, **common
        ),
        "unet": lambda: library.Unet("resnet18", decoder_channels=(64, 32, 16, 8, 4), **common),
    }[head]()


@pytest.mark.parametrize(("head", "width", "stride"), [("deeplab", 16, 8), ("fpn", 64, 32), ("unet", 64, 32)])
def test_same_as_the_librarys_own_network_where_that_one_works(head, width, stride):
    backbone, heads = build(head=head, head_channels=width, output_stride=stride)
    own = heads["segmentation"]
    other = theirs(head)
    other.encoder.load_state_dict(backbone.encoder.state_dict())
    decoder = other.decoder.blocks if head == "unet" else other.decoder
    if head == "deeplab":  # without `aspp_separable`, which the library sets by the network's name
        assert not other.decoder.aspp.convs[1][0].groups > 1
    decoder.load_state_dict(own.decoder.state_dict())
    other.segmentation_head[0].load_state_dict(own.out.state_dict())
    x = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = own.eval()(backbone.eval()(x))
        expected = other.eval()(x)
    assert expected.std() > 1e-3
    # the library enlarges DeepLabV3's prediction with other corners than ours
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("head", "used"),
    [
        ("deeplabv3+", [False, True, False, False, True]),
        ("deeplab", [False, False, False, False, True]),
        ("fpn", [False, True, True, True, True]),
        ("unet", [True, True, True, True, True]),
    ],
)
def test_which_levels_a_head_reads(head, used):
    backbone, heads = build((32, 64), ("depth",), head=head, head_channels=64)
    z = tuple(level.detach().requires_grad_() for level in backbone(torch.rand(2, 3, 32, 64)))
    heads["depth"](z).sum().backward()
    assert [level.grad is not None for level in z] == used


@pytest.mark.parametrize("head", ["deeplab", "fpn", "unet"])
@pytest.mark.parametrize(("encoder", "stride"), [("resnet18", 8), ("convnext_atto", 32), ("mobilenet_v2", 16)])
def test_any_size_and_stride(head, encoder, stride):
    size = (45, 70)
    backbone, heads = build(size, encoder=encoder, head=head, head_channels=64, output_stride=stride)
    z = backbone(torch.rand(2, 3, *size))
    assert heads["segmentation"](z).shape == (2, 5, *size)
    assert heads["scene"](z).shape == (2, 4)


def test_the_deeplab_head_has_the_parameters_of_the_layers_in_its_paper():
    """ASPP with three dilated 3 × 3, a 1 × 1 and a pooled 1 × 1, their projection, a 3 × 3 and a 1 × 1 convolution."""
    _, heads = build(head="deeplab", head_channels=256)
    c = 512
    w = 256
    out = 5
    branches = 2 * c * w + 3 * 9 * c * w
    expected = branches + 5 * w * w + 9 * w * w + 7 * 2 * w + w * out + out
    assert sum(p.numel() for p in heads["segmentation"].parameters()) == expected


def test_dropout_is_the_librarys_where_none_is_given():
    def rate(**options):
        _, heads = build(tasks=("depth",), **{"dropout": None, "head_channels": 64, **options})
        return [m.p for m in heads["depth"].modules() if isinstance(m, torch.nn.Dropout | torch.nn.Dropout2d)]

    assert [rate(head=head) for head in ("deeplab", "deeplabv3+", "fpn", "unet")] == [[0.5], [0.5], [0.2], []]
    assert rate(head="fpn", dropout=0.3) == [0.3]


def test_fpn_says_which_widths_it_can_have():
    with pytest.raises(ValueError, match=r'"fpn" has group norm of 32 groups.*multiple of 64, found 48'):
        SMP(head="fpn", head_channels=48)


def test_one_image_in_training_is_refused_with_a_remedy():
    backbone, heads = build((32, 64), head="deeplab", head_channels=8)
    z = backbone(torch.rand(1, 3, 32, 64))
    with pytest.raises(MtlError, match="batch_size"):
        heads["segmentation"](z)
