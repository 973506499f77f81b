"""Encoders of segmentation-models-pytorch with DeepLabV3+ heads, small."""

import socket

import pytest
import segmentation_models_pytorch
import torch
from torch import nn

from mtl_backbones import SMP
from mtl_core import MtlError
from mtl_core.testing import BackboneContract, make_tasks

SMALL = {"encoder": "resnet18", "head_channels": 8, "dropout": 0.0}


class TestSMP(BackboneContract):
    trains_on_one_image = False  # batch norm behind a pooling over the image
    task_names = ("segmentation", "depth", "normals", "scene")
    image_size = (33, 47)

    @pytest.fixture
    def plugin(self) -> SMP:
        return SMP(**SMALL)


def build(size=(32, 64), tasks=("segmentation", "scene"), **options):
    torch.manual_seed(0)
    plugin = SMP(**{**SMALL, **options})
    backbone = plugin.build_backbone(image_size=size, in_channels=3)
    return backbone, plugin.build_heads(backbone=backbone, tasks=make_tasks(*tasks), image_size=size)


@pytest.mark.parametrize("stride", [8, 16])
def test_same_as_the_librarys_own_network_where_that_one_works(stride):
    """Its upsampling by fixed factors needs sizes that the output stride divides; there the two agree."""
    backbone, heads = build((64, 96), ("segmentation",), output_stride=stride, head_channels=16)
    theirs = segmentation_models_pytorch.DeepLabV3Plus(
        "resnet18", encoder_weights=None, encoder_output_stride=stride, decoder_channels=16, classes=5
    ).eval()
    theirs.encoder.load_state_dict(backbone.encoder.state_dict())
    theirs.decoder.load_state_dict(heads["segmentation"].decoder.state_dict())
    theirs.segmentation_head[0].load_state_dict(heads["segmentation"].out.state_dict())
    x = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = heads.eval()["segmentation"](backbone.eval()(x))
        expected = theirs(x)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("stride", "last"), [(8, (8, 12)), (16, (4, 6)), (32, (2, 3))])
def test_output_stride_is_the_size_of_the_last_level(stride, last):
    backbone, _ = build((64, 96), output_stride=stride)
    assert tuple(backbone(torch.rand(1, 3, 64, 96))[-1].shape[-2:]) == last


@pytest.mark.parametrize("encoder", ["mobilenet_v2", "efficientnet-b0", "mit_b0", "tu-convnext_atto"])
def test_other_families_work_on_odd_sizes(encoder):
    backbone, heads = build((45, 70), encoder=encoder, output_stride=32)
    z = backbone(torch.rand(2, 3, 45, 70))
    assert backbone.channels == tuple(level.shape[1] for level in z)
    assert heads["segmentation"](z).shape == (2, 5, 45, 70)
    assert heads["scene"](z).shape == (2, 4)


def test_levels_that_no_head_uses_get_no_gradient():
    backbone, heads = build(tasks=("depth", "normals"))
    z = tuple(level.detach().requires_grad_() for level in backbone(torch.rand(2, 3, 32, 64)))
    sum(head(z).sum() for head in heads.values()).backward()
    assert [level.grad is not None for level in z] == [False, True, False, False, True]


def test_images_are_left_as_they_are_without_weights():
    backbone, _ = build()
    assert not backbone.mean.any()
    assert (backbone.deviation == 1).all()


def test_nothing_is_fetched(monkeypatch):
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    build()
    build(encoder="tu-resnet10t")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("resnet5O", "resnet50"), ("efficentnet-b0", "efficientnet-b0"), ("tu-resnet10", "tu-resnet10t")],
)
def test_unknown_encoder_names_the_nearest(name, meant):
    with pytest.raises(ValueError, match=rf'no encoder "{name}"; did you mean "{meant}"\?'):
        SMP(encoder=name)


def test_unknown_encoder_unlike_any_other_gives_examples():
    with pytest.raises(ValueError, match=r'no encoder "qqqq" \(examples: "resnet18"'):
        SMP(encoder="qqqq")


def test_encoder_that_cannot_be_dilated_says_what_to_do():
    with pytest.raises(MtlError, match=r'"densenet121" cannot be made with output_stride 16.*output_stride = 32'):
        build(encoder="densenet121", output_stride=16)


def test_encoder_with_a_size_of_its_own_says_so_at_once():
    with pytest.raises(MtlError, match=r"cannot take images of 33 × 47 pixels.*224.*resize"):
        build((33, 47), encoder="tu-swin_tiny_patch4_window7_224", output_stride=32)


def test_one_image_in_training_is_refused_with_a_remedy():
    backbone, heads = build()
    z = backbone(torch.rand(1, 3, 32, 64))
    with pytest.raises(MtlError, match="batch_size"):
        heads["segmentation"](z)
    assert heads.eval()["segmentation"](z).shape == (1, 5, 32, 64)


def test_heads_refuse_a_single_tensor():
    backbone = nn.Identity()
    backbone.channels = 64
    with pytest.raises(MtlError, match=r"pyramid.*Identity has channels 64.*build_heads"):
        SMP(**SMALL).build_heads(backbone=backbone, tasks=make_tasks("depth"), image_size=(32, 32))


@pytest.mark.parametrize(
    ("option", "value"),
    [("dropout", 1.0), ("head_channels", 0), ("output_stride", 4), ("head", "pan"), ("atrous_rates", (6, 0, 18))],
)
def test_options_out_of_range(option, value):
    with pytest.raises(ValueError, match=r"must (all )?be"):
        SMP(**{option: value})
