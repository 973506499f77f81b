"""VGG-16: torchvision's layers, linear heads, and decoders of dense tasks."""

import itertools
import subprocess
import sys

import pytest
import torch
import torchvision

from mtl_backbones import VGG16
from mtl_core import MtlError, Tasks
from mtl_core.testing import BackboneContract, LossScale, branch, gramian, make_tasks


class TestLinearHeads(BackboneContract):
    task_names = ("scene",)
    image_size = (32, 32)

    @pytest.fixture
    def plugin(self) -> VGG16:
        return VGG16(width=4)


class TestPooled(BackboneContract):
    task_names = ("scene",)
    image_size = (35, 20)

    @pytest.fixture
    def plugin(self) -> VGG16:
        return VGG16(width=4, pool=True, norm="none")


class TestDense(BackboneContract):
    trains_on_one_image = False  # batch norm behind a pooling over the image
    task_names = ("segmentation", "depth", "scene")
    image_size = (33, 47)

    @pytest.fixture(params=["deeplab", "deeplabv3+", "unet"])
    def plugin(self, request) -> VGG16:
        return VGG16(width=4, head=request.param, head_channels=8, dropout=0.0)


class TestFPN(BackboneContract):
    task_names = ("segmentation", "scene")

    @pytest.fixture
    def plugin(self) -> VGG16:
        return VGG16(width=4, norm="group", head="fpn", head_channels=64, dropout=0.0)


def build(size=(32, 32), tasks=("scene",), **options):
    torch.manual_seed(0)
    plugin = VGG16(**options)
    backbone = plugin.build_backbone(image_size=size, in_channels=3)
    return backbone, plugin.build_heads(backbone=backbone, tasks=make_tasks(*tasks), image_size=size)


def theirs(norm):
    """torchvision's network without its classifier of 120 million parameters."""
    with torch.device("meta"):
        whole = torchvision.models.vgg16_bn() if norm == "batch" else torchvision.models.vgg16()
    torch.manual_seed(0)
    return torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"], norm == "batch"), whole.state_dict()


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_names_and_shapes_are_torchvisions(norm):
    backbone, _ = build(norm=norm)
    _, whole = theirs(norm)
    own = {name: tuple(x.shape) for name, x in backbone.state_dict().items() if name.startswith("features.")}
    assert own == {name: tuple(x.shape) for name, x in whole.items() if name.startswith("features.")}


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_computes_what_torchvisions_layers_compute(norm):
    backbone, _ = build((48, 64), norm=norm)
    layers, _ = theirs(norm)
    layers.load_state_dict(backbone.features.state_dict())
    x = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        # without the fifth pooling
        found = backbone.eval()(x)
        expected = layers.eval()[:-1](x)
    assert found.shape == (2, 512, 3, 4)
    torch.testing.assert_close(found, expected)


def test_a_state_dict_of_torchvision_is_read(tmp_path, caplog):
    _, whole = theirs("batch")
    state = {n: torch.rand(x.shape) if x.is_floating_point() else torch.zeros_like(x, device="cpu")
             for n, x in whole.items() if not n.startswith("classifier.")}  # fmt: skip
    torch.save(state | {"classifier.6.bias": torch.zeros(1000)}, tmp_path / "vgg16_bn.pth")
    backbone, _ = build(weights=str(tmp_path / "vgg16_bn.pth"))
    assert 'vgg16_bn.pth → encoder "vgg16": 78 of 78 tensors; left out classifier.6.bias' in caplog.text
    assert torch.equal(backbone.features[40].weight, state["features.40.weight"])
    assert backbone.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


@pytest.mark.parametrize(("norm", "expected"), [("none", 14_714_688), ("batch", 14_723_136), ("group", 14_723_136)])
def test_parameters_are_those_of_its_layers(norm, expected):
    sizes = [3, 64, 64, 128, 128, *[256] * 3, *[512] * 6]
    count = sum(9 * a * b + b for a, b in itertools.pairwise(sizes))
    count += 0 if norm == "none" else 2 * sum(sizes[1:])
    backbone, heads = build(norm=norm)
    assert sum(p.numel() for p in backbone.parameters()) == count == expected
    assert sum(p.numel() for p in heads.parameters()) == 512 * 4 + 4


def test_twenty_linear_heads_on_one_pooled_map_are_small():
    with torch.device("meta"):
        backbone, heads = build(tasks=("scene",), pool=True)
        assert backbone(torch.empty(640, 3, 32, 32)).shape == (640, 512, 1, 1)
    assert sum(p.numel() for p in heads.parameters()) < 1e-3 * sum(p.numel() for p in backbone.parameters())


def test_pooling_in_the_encoder_changes_no_prediction_and_no_angle_between_gradients():
    """A branch at the map is the branch at its mean, spread over h·w places: the Gramian shrinks by h·w."""
    kinds = [("a", 0), ("b", 1), ("c", 2)]
    tasks = Tasks([type(make_tasks("scene")[0])(name=name, channels=4) for name, _ in kinds])
    found = []
    for pool in (False, True):
        torch.manual_seed(0)
        plugin = VGG16(width=4, pool=pool)
        backbone = plugin.build_backbone(image_size=(32, 32), in_channels=3).double().eval()
        heads = plugin.build_heads(backbone=backbone, tasks=tasks, image_size=(32, 32)).double()
        images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
        grams = []

        def shape(branches, scale, grams=grams):
            grams.append(gramian(branches, scale))
            return torch.ones(3, dtype=torch.float64)

        copies = branch(backbone(images), 3, shape, LossScale())
        predictions = [heads[name](z) for (name, _), z in zip(kinds, copies, strict=True)]
        sum(p.square().sum() for p in predictions).backward()
        found.append((torch.stack(predictions), grams[0], backbone.features[0].weight.grad))
    (plain, gram, gradient), (also, smaller, same) = found
    torch.testing.assert_close(also, plain)
    torch.testing.assert_close(smaller, 4 * gram)
    torch.testing.assert_close(same, gradient)


def test_images_are_standardised_as_told():
    backbone, _ = build(mean=(0.5, 0.4, 0.3), deviation=(0.25, 0.5, 1.0), width=4)
    x = torch.rand(1, 3, 32, 32)
    expected = (x - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.25, 0.5, 1.0]).view(3, 1, 1)
    torch.testing.assert_close(backbone.standardise(x), expected)


def test_images_that_would_vanish_are_refused():
    with pytest.raises(MtlError, match=r"vgg16: images of 15 × 64 pixels.*at least 16 × 16"):
        build((15, 64))
    assert build((16, 16), width=4)[0].eval()(torch.rand(1, 3, 16, 16)).shape == (1, 32, 1, 1)


def test_a_pooled_map_has_no_dense_task():
    with pytest.raises(MtlError, match=r'pool = true.*dense task "depth".*pool = false'):
        build(tasks=("scene", "depth"), pool=True)


def test_heads_refuse_a_backbone_without_channels():
    with pytest.raises(MtlError, match=r"the backbone Identity has channels None.*build_heads"):
        VGG16().build_heads(backbone=torch.nn.Identity(), tasks=make_tasks("scene"), image_size=(32, 32))


@pytest.mark.parametrize(
    ("option", "value"), [("width", 0), ("norm", "layer"), ("head", "pan"), ("deviation", (1.0, 0.0, 1.0))]
)
def test_options_out_of_range(option, value):
    with pytest.raises(ValueError, match=rf"'{option}' must (all )?be"):
        VGG16(**{option: value})


def test_linear_heads_need_no_encoder_library():
    code = (
        "import sys; from mtl_backbones import VGG16; from mtl_core.testing import make_tasks; p = VGG16(width=4);"
        "b = p.build_backbone(image_size=(32, 32), in_channels=3);"
        "p.build_heads(backbone=b, tasks=make_tasks('scene'), image_size=(32, 32));"
        "print([m for m in ('timm', 'segmentation_models_pytorch') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
