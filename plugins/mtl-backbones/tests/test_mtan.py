"""MTAN against its equations, computed once more from the same weights, and against the published size."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_backbones import MTAN, SegNet
from mtl_core import Depth, MtlError, Normals, Segmentation, Tasks
from mtl_core.testing import BackboneContract, LossScale, Network, branch, make_tasks

NYU = Tasks([Segmentation(name="segmentation", channels=13), Depth(name="depth"), Normals(name="normals")])


class TestMTAN(BackboneContract):
    task_names = ("segmentation", "depth", "scene")
    image_size = (33, 47)

    @pytest.fixture
    def plugin(self) -> MTAN:
        return MTAN(width=4)


class TestGroupNorm(BackboneContract):
    image_size = (32, 64)

    @pytest.fixture
    def plugin(self) -> MTAN:
        return MTAN(width=4, norm="group")

    def test_training_too_sees_each_image_alone(self, plugin):
        network = self.build(plugin).double()
        images = self.images().double()
        alone = network(images[:1])
        together = network(images)
        for name in alone:
            torch.testing.assert_close(together[name][:1], alone[name])


def build(tasks=None, size=(32, 64), **options):
    torch.manual_seed(0)
    plugin = MTAN(**{"width": 4, **options})
    tasks = tasks or make_tasks("segmentation", "depth", "scene")
    backbone = plugin.build_backbone(image_size=size, in_channels=3)
    return Network(backbone, plugin.build_heads(backbone=backbone, tasks=tasks), tasks)


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_as_many_parameters_as_published():
    """44.2 million for NYU-v2, 1.77 times a SegNet of 24 981 069: what the authors' code counts, less its three σ."""
    with torch.device("meta"):
        network = build(NYU, width=64)
    assert count(network) == 44_229_076 - 3
    assert round(count(network) / 24_981_069, 2) == 1.77


def test_parameters_of_one_more_task_are_its_masks_and_its_prediction():
    s = (64, 128, 256, 512, 512)
    e = (64, *s[:-1])

    def mask(entry: int, channels: int) -> int:
        return (entry + 1) * channels + (channels + 1) * channels + 4 * channels

    down = mask(s[0], s[0]) + sum(mask(2 * c, c) for c in s[1:])
    up = sum(mask(a + b, b) for a, b in zip(s, e, strict=True))
    predict = 9 * 64 * 64 + 64 + 64 * 13 + 13
    with torch.device("meta"):
        network = build(NYU, width=64)
    assert count(network.heads["segmentation"]) == down + up + predict


def conv(x: Tensor, state: dict[str, Tensor], name: str, norm: str, padding: int) -> Tensor:
    """A convolution and a batch norm that has seen nothing: running mean 0 and variance 1."""
    x = F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)
    shape = (1, -1, 1, 1)
    mean, variance = (state[f"{norm}.running_{part}"].view(shape) for part in ("mean", "var"))
    scale, shift = (state[f"{norm}.{part}"].view(shape) for part in ("weight", "bias"))
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def by_the_equations(network: Network, images: Tensor, task: str) -> Tensor:
    """Eq. 1 to 3 of the paper for one task, written down level by level from the weights alone."""
    state = network.state_dict()

    def block(x: Tensor, name: str, first: int, last: int) -> Tensor:
        for layer in range(first, last):
            x = conv(x, state, f"{name}.{3 * layer}", f"{name}.{3 * layer + 1}", 1).relu()
        return x

    def mask(x: Tensor, name: str) -> Tensor:
        hidden = conv(x, state, f"{name}.0", f"{name}.1", 0).relu()
        return conv(hidden, state, f"{name}.3", f"{name}.4", 0).sigmoid()

    trunk = "backbone.segnet"
    head = f"heads.{task}"
    counts = (2, 2, 3, 3, 3)
    u = []
    p = []
    places = []
    x = images
    for n in range(5):
        u.append(block(x, f"{trunk}.encoder.levels.{n}", 0, 1))
        p.append(block(u[n], f"{trunk}.encoder.levels.{n}", 1, counts[n]))
        x, where = F.max_pool2d(p[n], 2, return_indices=True)
        places.append((where, p[n].shape))
    opened = {}
    decoded = {}
    for n in (4, 3, 2, 1, 0):
        opened[n] = F.max_unpool2d(x, places[n][0], 2, output_size=places[n][1])
        decoded[n] = x = block(opened[n], f"{trunk}.decoder.levels.{n}", 0, counts[n])
    a = None
    for n in range(5):
        seen = u[n] if a is None else torch.cat((u[n], a), 1)
        masked = mask(seen, f"{head}.down.{n}") * p[n]
        a = F.max_pool2d(block(masked, f"backbone.on_the_way_down.{n}", 0, 1), 2)
    for n in (4, 3, 2, 1, 0):
        a = F.interpolate(a, opened[n].shape[-2:], mode="bilinear", align_corners=True)
        a = block(a, f"backbone.on_the_way_up.{n}", 0, 1)
        a = mask(torch.cat((opened[n], a), 1), f"{head}.up.{n}") * decoded[n]
    a = F.conv2d(a, state[f"{head}.predict.0.weight"], state[f"{head}.predict.0.bias"], padding=1)
    return F.conv2d(a, state[f"{head}.predict.1.weight"], state[f"{head}.predict.1.bias"])


@pytest.mark.parametrize("size", [(32, 64), (37, 50)])
@pytest.mark.parametrize("task", ["segmentation", "depth"])
def test_computes_its_equations(size, task):
    network = build(size=size).double().eval()
    for module in network.modules():  # batch norm that does something
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        found = network(images)[task]
        expected = by_the_equations(network, images, task)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected)


def test_a_mask_that_is_closed_hides_the_features():
    network = build()
    with torch.no_grad():
        network.heads["depth"].up[0][4].bias.fill_(-1e4)  # the last norm of the last mask
        found = network(torch.rand(2, 3, 32, 64))
    assert found["depth"].std() < 1e-6
    assert found["segmentation"].std() > 0.1


class TestSharing:
    """What lies between two attention modules is one for all tasks, and belongs to the trunk."""

    def test_heads_own_none_of_it(self):
        network = build()
        shared = {
            id(p) for m in (network.backbone.on_the_way_down, network.backbone.on_the_way_up) for p in m.parameters()
        }
        assert shared
        assert not shared & {id(p) for p in network.heads.parameters()}
        assert shared <= {id(p) for p in network.backbone.parameters()}

    def test_every_task_trains_it(self):
        network = build()
        predictions = network(torch.rand(2, 3, 32, 64))
        gradients = []
        for name in predictions:
            network.zero_grad()
            predictions[name].square().mean().backward(retain_graph=True)
            gradients.append(network.backbone.on_the_way_down[2][0].weight.grad.clone())
        assert all(g.abs().sum() > 0 for g in gradients)
        assert not torch.allclose(gradients[0], gradients[1])

    def test_a_copy_of_the_network_shares_within_itself(self):
        network = copy.deepcopy(build())
        images = torch.rand(2, 3, 32, 64)
        before = network(images)["depth"].detach()
        with torch.no_grad():
            network.backbone.on_the_way_up[1][0].weight.neg_()
        assert (network(images)["depth"] - before).abs().max() > 0.1

    def test_other_parameters_reach_it_in_a_functional_call(self):
        network = build()
        images = torch.rand(2, 3, 32, 64)
        name = "backbone.on_the_way_down.0.0.weight"
        other = {name: -network.state_dict()[name]}
        found = torch.func.functional_call(network, other, (images,))["depth"]
        assert (found - network(images)["depth"]).abs().max() > 1e-3

    def test_it_is_saved_once(self):
        names = [name for name in build().state_dict() if "on_the_way" in name]
        assert names
        assert all(name.startswith("backbone.") for name in names)


def test_the_seam_lies_at_the_trunks_features():
    """Weights of 0 at the seam leave the trunk without a gradient; the shared convolutions keep theirs."""
    network = build()
    z = network.backbone(torch.rand(2, 3, 32, 64))
    reached = []

    def shape(branches, scale):
        reached.extend(all(level is not None for level in b) for b in branches)
        return torch.zeros(3)

    predictions = network.decode(branch(z, 3, shape, LossScale()))
    sum(p.square().mean() for p in predictions.values()).backward()
    assert reached == [True, True, True]
    assert not any(p.grad.any() for p in network.backbone.segnet.parameters())
    assert network.backbone.on_the_way_down[0][0].weight.grad.any()


def test_the_trunk_is_segnet():
    network = build().eval()
    images = torch.rand(2, 3, 32, 64)
    z, deepest = network.backbone.with_deepest(images)
    expected, latent = network.backbone.segnet.with_deepest(images)
    torch.testing.assert_close(z[-1], expected)
    torch.testing.assert_close(deepest, latent)


def test_makes_autoencoders_of_its_kind():
    network = build().backbone.autoencoder(5, 3, bottleneck=7)
    assert network.encode(torch.rand(2, 5, 32, 64)).features.shape == (2, 7, 1, 2)


def test_heads_refuse_another_trunk():
    backbone = SegNet(width=4).build_backbone(image_size=(32, 32), in_channels=3)
    with pytest.raises(MtlError, match=r"MTAN's trunk, the backbone is a SegNet.*build_backbone and build_heads"):
        MTAN().build_heads(backbone=backbone, tasks=make_tasks("depth"))


def test_images_that_would_vanish_are_refused():
    with pytest.raises(MtlError, match=r"mtan: images of 31 × 64 pixels.*at least 32 × 32"):
        build(size=(31, 64))


@pytest.mark.parametrize(("option", "value"), [("width", 0), ("norm", "layer")])
def test_options_out_of_range(option, value):
    with pytest.raises(ValueError, match=f"'{option}' must be"):
        MTAN(**{option: value})
