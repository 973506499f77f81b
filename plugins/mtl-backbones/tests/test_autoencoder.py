"""Autoencoders of the backbone's kind, small."""

import pytest
import torch

from mtl_backbones import SMP
from mtl_nn import Networks


def make(bottleneck=None, **options):
    torch.manual_seed(0)
    backbone = SMP(encoder="resnet18", head_channels=8, **options).build_backbone(image_size=(32, 64), in_channels=3)
    return backbone, Networks(backbone=backbone).like_backbone(9, 7, bottleneck=bottleneck)


@pytest.mark.parametrize("size", [(32, 64), (45, 37)])
def test_channels_and_sizes(size):
    _, network = make()
    latent = network.encode(torch.rand(2, 9, *size))
    assert latent.features.shape[:2] == (2, 512)
    assert network.decode(latent).shape == (2, 7, *size)


def test_bottleneck_narrows_the_latent():
    _, network = make(bottleneck=6)
    assert network.encode(torch.rand(2, 9, 32, 64)).features.shape[1] == network.channels == 6


def test_its_encoder_is_of_the_backbones_kind_with_weights_of_its_own():
    backbone, network = make(output_stride=32)
    assert network.encode(torch.rand(2, 9, 64, 64)).features.shape[-2:] == (2, 2)
    own = network.encoder.state_dict()
    theirs = backbone.encoder.state_dict()
    assert own.keys() == theirs.keys()
    assert own["conv1.weight"].shape == (64, 9, 7, 7)
    assert not any(a is b for a in network.parameters() for b in backbone.parameters())


def test_nothing_passes_around_the_latent():
    _, network = make()
    network.eval()
    one, other = (network.encode(torch.rand(1, 9, 32, 64)) for _ in range(2))
    assert torch.equal(network.decode(one), network.decode(other._replace(features=one.features)))
    assert not torch.equal(network.decode(one), network.decode(other))


def test_every_parameter_is_trained():
    _, network = make(bottleneck=4)
    network(torch.rand(2, 9, 32, 64)).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
