"""The average of a network against a loop in double precision."""

from __future__ import annotations

import torch
from torch import nn

from mtl_core.testing import StubBackbone, make_tasks, stub_heads
from mtl_nn import AveragedNetwork, SegNet

TASKS = make_tasks("segmentation", "depth", "scene")
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def moved(network: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)


def network() -> tuple[StubBackbone, nn.ModuleDict]:
    torch.manual_seed(0)
    backbone = StubBackbone(4)
    return backbone, stub_heads(backbone, TASKS)


def test_weights_are_a_mean_at_first_and_an_exponential_one_later() -> None:
    backbone, heads = network()
    made = AveragedNetwork(backbone, heads, decay=0.6)
    name = "depth"
    expected = heads[name].linear.weight.detach().double()
    for n in range(6):
        alpha = min(0.6, 1 - 1 / (n + 1))
        expected = alpha * expected + (1 - alpha) * heads[name].linear.weight.detach().double()
        made.update()
        torch.testing.assert_close(made.heads[name].linear.weight.double(), expected, rtol=1e-5, atol=1e-6)
        moved(heads, n)
    assert not torch.allclose(made.heads[name].linear.weight, heads[name].linear.weight)


def test_it_predicts_what_a_network_with_its_weights_does_and_sends_no_gradient() -> None:
    backbone, heads = network()
    made = AveragedNetwork(backbone, heads, decay=0.9)
    before = {name: head(backbone(IMAGES)) for name, head in heads.items()}
    moved(heads, 1)
    for name, prediction in made(IMAGES).items():
        assert not prediction.requires_grad
        torch.testing.assert_close(prediction, before[name])


def test_it_holds_buffers_only_and_leaves_the_network_alone() -> None:
    backbone, heads = network()
    made = AveragedNetwork(backbone, heads, decay=0.9)
    assert not list(made.parameters())
    assert len(list(heads.parameters())) == 2 * len(TASKS)
    other = AveragedNetwork(*network(), decay=0.9)
    moved(heads, 2)
    made.update()
    other.load_state_dict(made.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(made(IMAGES).values(), other(IMAGES).values(), strict=True))


def test_it_normalises_as_the_network_does() -> None:
    """Frozen parts of a network that trains stay in evaluation mode."""
    torch.manual_seed(0)
    backbone = SegNet(width=2)
    made = AveragedNetwork(backbone, nn.ModuleDict({"depth": nn.Conv2d(2, 1, 1)}), decay=0.9)
    backbone.eval()
    made.train()
    statistics = [b.clone() for n, b in made.named_buffers() if "running" in n]
    one = made(IMAGES)["depth"]
    assert all(torch.equal(a, b) for a, (n, b) in zip(
        statistics, ((n, b) for n, b in made.named_buffers() if "running" in n), strict=True))  # fmt: skip
    backbone.train()
    assert not torch.equal(made(IMAGES)["depth"], one)
