"""Re-estimated statistics against those of all values together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtl_core.training.batch_norm import batch_norms, batch_statistics, reestimate


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))


def batches() -> list[Tensor]:
    """Two, of different sizes and brightness."""
    generator = torch.Generator().manual_seed(1)
    return [k * torch.rand(size, 3, 8, 8, generator=generator) for k, size in ((1, 2), (5, 6))]


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_statistics_are_those_of_all_batches_together() -> None:
    """Also of the second layer, behind a first one that normalises every batch by itself."""
    net = network()
    entering = []
    net[4].register_forward_pre_hook(lambda module, inputs: entering.append(inputs[0].detach()))
    before = state(net)
    reestimate(net, batches())
    first = torch.cat([net[0](images) for images in batches()]).detach()
    torch.testing.assert_close(net[1].running_mean, first.mean((0, 2, 3)))
    torch.testing.assert_close(net[1].running_var, first.var((0, 2, 3)))
    second = torch.cat(entering)
    torch.testing.assert_close(net[4].running_mean, second.mean((0, 2, 3)))
    torch.testing.assert_close(net[4].running_var, second.var((0, 2, 3)))
    others = [name for name in before if not name.endswith(("running_mean", "running_var"))]
    assert all(torch.equal(before[name], net.state_dict()[name]) for name in others)
    assert not net[1]._forward_pre_hooks


def test_with_the_statistics_of_a_batch_evaluation_is_what_training_computes() -> None:
    """Up to the variance: normalised with that of the batch, kept as an estimate of the population's."""
    net = network()
    images = batches()[1]
    trained = net(images)
    reestimate(net, [images])
    torch.testing.assert_close(net.eval()(images), trained, rtol=1e-2, atol=1e-2)


def test_values_that_are_not_finite_leave_a_layer_as_it_was() -> None:
    net = network()
    before = state(net)
    reestimate(net, [batches()[0] * float("nan")])
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_layer_in_evaluation_mode_and_one_without_statistics_are_left_alone() -> None:
    net = network()
    net[1].eval()
    net.append(nn.BatchNorm2d(2, track_running_stats=False))
    before = state(net)
    reestimate(net, batches())
    assert torch.equal(net[1].running_mean, before["1.running_mean"])
    assert not torch.equal(net[4].running_mean, before["4.running_mean"])


def test_a_network_may_normalise_by_the_batch_in_evaluation() -> None:
    net = network()
    images = batches()[1]
    expected = net(images)
    layers = batch_norms(net)
    net.eval()
    before = state(net)
    assert not torch.allclose(net(images), expected)
    with batch_statistics(layers):
        torch.testing.assert_close(net(images), expected)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [layer.training for layer in layers] == [False, False]
    assert all(layer.track_running_stats for layer in layers)
