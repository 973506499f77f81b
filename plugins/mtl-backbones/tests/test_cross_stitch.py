"""Cross-stitch units against their equation, and networks that they join."""

import pytest
import torch
from torch import nn

from mtl_backbones import CrossStitch, SegNet
from mtl_backbones.stitch import _CrossStitchUnit
from mtl_core import Depth, Experiment, MtlError, Normals, Segmentation, Tasks
from mtl_core.testing import (
    BackboneContract,
    LossScale,
    Network,
    ToyData,
    ToyLabels,
    branch,
    gramian,
    make_tasks,
    prepare,
)
from mtl_nn import SegNet as Plain


class TestCrossStitch(BackboneContract):
    task_names = ("segmentation", "depth", "scene")
    image_size = (33, 47)

    @pytest.fixture
    def plugin(self) -> CrossStitch:
        return CrossStitch(width=4)


class TestOneWeightForAllChannels(BackboneContract):
    task_names = ("segmentation", "normals")

    @pytest.fixture
    def plugin(self) -> CrossStitch:
        return CrossStitch(width=4, per_channel=False, norm="group")


class TestOneTask(BackboneContract):
    task_names = ("depth",)

    @pytest.fixture
    def plugin(self) -> CrossStitch:
        return CrossStitch(width=4)


def build(tasks=("segmentation", "depth", "scene"), size=(32, 64), **options):
    torch.manual_seed(0)
    plugin = CrossStitch(**{"width": 4, **options})
    made = make_tasks(*tasks)
    backbone = plugin.build_backbone(image_size=size, in_channels=3)
    return Network(backbone, plugin.build_heads(backbone=backbone, tasks=made), made)


class TestUnit:
    def features(self):
        return list(torch.randn(3, 2, 5, 4, 6, generator=torch.Generator().manual_seed(0)).double())

    @pytest.mark.parametrize("channels", [None, 5])
    def test_is_its_equation(self, channels):
        unit = _CrossStitchUnit(3, channels, 0.9).double()
        nn.init.normal_(unit.alpha)
        x = torch.stack(self.features())
        alpha = unit.alpha[:, :, :, 0, 0].expand(3, 3, 5)
        expected = torch.einsum("ijc,jbchw->ibchw", alpha, x)
        torch.testing.assert_close(torch.stack(unit(self.features())), expected)

    @pytest.mark.parametrize(("tasks", "same"), [(1, 0.9), (2, 0.9), (5, 0.5)])
    def test_rows_sum_to_one_at_first(self, tasks, same):
        alpha = _CrossStitchUnit(tasks, 3, same).alpha
        torch.testing.assert_close(alpha.sum(1), torch.ones(tasks, 3, 1, 1))
        torch.testing.assert_close(alpha[0, 0].flatten(), torch.full((3,), same if tasks > 1 else 1.0))

    def test_two_tasks_begin_as_in_the_paper(self):
        torch.testing.assert_close(
            _CrossStitchUnit(2, None, 0.9).alpha.squeeze(), torch.tensor([[0.9, 0.1], [0.1, 0.9]])
        )


def test_parameters_are_a_segnet_per_task_and_the_units():
    tasks = Tasks([Segmentation(name="segmentation", channels=13), Depth(name="depth"), Normals(name="normals")])
    with torch.device("meta"):
        plugin = CrossStitch()
        backbone = plugin.build_backbone(image_size=(64, 64), in_channels=3)
        heads = plugin.build_heads(backbone=backbone, tasks=tasks)
    trunk = sum(p.numel() for p in Plain(3, 64).parameters())
    channels = (64, 128, 256, 512, 512, 512, 256, 128, 64)
    assert trunk == 24_943_296
    assert sum(p.numel() for p in backbone.parameters()) == 3 * trunk + 9 * sum(channels)
    assert sum(p.numel() for p in heads.parameters()) == sum(9 * 64 * 64 + 64 + 65 * out for out in (13, 1, 3))


def separate(network: Network, k: int) -> torch.Tensor:
    """What one task's SegNet gives alone."""
    images = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    images = images.to(next(network.parameters()).dtype)
    return network.backbone.networks[k](images)


def joined(network: Network) -> tuple[torch.Tensor, ...]:
    images = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    images = images.to(next(network.parameters()).dtype)
    return network.backbone(images)


def test_with_weights_of_one_for_oneself_the_networks_are_separate():
    network = build(same=1.0)
    for k, z in enumerate(joined(network)):
        torch.testing.assert_close(z, separate(network, k))
    a, b, _ = joined(network)
    assert (a - b).abs().max() > 0.1


def test_networks_with_one_set_of_weights_stay_alike():
    """Whatever the units do: combinations of equal features with rows that sum to 1."""
    network = build(same=0.3).double()
    state = network.backbone.networks[0].state_dict()
    for other in network.backbone.networks[1:]:
        other.load_state_dict(state)
    for z in joined(network):
        torch.testing.assert_close(z, separate(network, 0))


@pytest.mark.parametrize("place", range(9))
def test_every_unit_joins_the_tasks(place):
    """With one unit open and all others closed, one task's network reaches the other's features."""
    network = build(("segmentation", "depth"), same=1.0)
    before = joined(network)[1]
    with torch.no_grad():
        network.backbone.units[place].alpha[1, 0] = 0.5
    after = joined(network)
    assert (after[1] - before).abs().max() > 1e-3
    torch.testing.assert_close(after[0], separate(network, 0))


def test_the_units_stand_where_the_paper_puts_them_behind_every_pooling():
    network = build()
    sizes = []
    for unit in network.backbone.units:
        unit.register_forward_hook(lambda _m, _x, out: sizes.append(tuple(out[0].shape[1:])))
    joined(network)
    down = [(4, 16, 32), (8, 8, 16), (16, 4, 8), (32, 2, 4), (32, 1, 2)]
    up = [(32, 2, 4), (16, 4, 8), (8, 8, 16), (4, 16, 32)]
    assert sizes == down + up


def test_each_head_reads_its_own_tensor_of_z():
    network = build().eval()
    z = joined(network)
    for k, name in enumerate(network.tasks.names):
        others = tuple(level if k == n else torch.full_like(level, torch.nan) for n, level in enumerate(z))
        assert torch.equal(network.heads[name](others), network.heads[name](z))


def test_at_the_seam_gradients_are_orthogonal_and_at_the_parameters_they_are_not():
    network = build(("segmentation", "depth"))
    found = []

    def shape(branches, scale):
        found.append((branches, gramian(branches, scale)))
        return torch.ones(2)

    z = network.backbone(torch.rand(2, 3, 32, 64))
    predictions = network.decode(branch(z, 2, shape, LossScale()))
    losses = [p.square().mean() for p in predictions.values()]
    torch.stack(losses).sum().backward(retain_graph=True)
    (branches, gram), *_ = found
    assert [[level is not None for level in b] for b in branches] == [[True, False], [False, True]]
    assert (gram.diagonal() > 0).all()
    assert gram[0, 1] == 0
    weight = network.backbone.networks[0].encoder.levels[1][0].weight
    a, b = (torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in losses)
    assert (a * b).sum() != 0


def test_units_learn_at_their_own_rate_and_without_weight_decay():
    plugin = CrossStitch(width=4, rate=100.0)
    backbone = plugin.build_backbone(image_size=(32, 32), in_channels=3)
    plugin.build_heads(backbone=backbone, tasks=make_tasks("depth", "normals"))
    (group,) = plugin.parameter_groups(learning_rate=1e-4)
    assert (group["lr"], group["weight_decay"]) == (pytest.approx(1e-2), 0.0)
    assert {id(p) for p in group["params"]} == {id(p) for p in backbone.units.parameters()}


def test_an_experiment_builds_it():
    experiment = Experiment(name="stitched", plugins=[ToyData(), CrossStitch(width=4), ToyLabels()], device="cpu")
    network = prepare(experiment).network
    assert len(network.backbone.networks) == len(network.tasks)


def test_without_heads_it_says_what_is_missing():
    backbone = CrossStitch(width=4).build_backbone(image_size=(32, 32), in_channels=3)
    with pytest.raises(MtlError, match="build_heads, which knows the tasks, comes first"):
        backbone(torch.rand(1, 3, 32, 32))


def test_heads_refuse_another_trunk():
    backbone = SegNet(width=4).build_backbone(image_size=(32, 32), in_channels=3)
    with pytest.raises(MtlError, match=r"its own networks, the backbone is a SegNet.*build_backbone and build_heads"):
        CrossStitch().build_heads(backbone=backbone, tasks=make_tasks("depth"))


@pytest.mark.parametrize(
    ("option", "value"), [("width", 0), ("norm", "layer"), ("same", 1.5), ("same", -0.1), ("rate", 0.0)]
)
def test_options_out_of_range(option, value):
    with pytest.raises(ValueError, match=f"'{option}' must be"):
        CrossStitch(**{option: value})
