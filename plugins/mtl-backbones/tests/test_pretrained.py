"""A real encoder trained on ImageNet, compared with timm's own network."""

from pathlib import Path

import pytest
import timm
import torch

from mtl_backbones import SMP
from mtl_core import DataError

NAME = "tf_efficientnet_lite0"
COPY = "timm-tf_efficientnet_lite0"
"""The library's own copy of timm's network, under the name by which it was published there."""


def build(path: Path, name: str, **options: object) -> torch.nn.Module:
    plugin = SMP(encoder=name, weights=str(path), output_stride=32, **options)
    return plugin.build_backbone(image_size=(64, 96), in_channels=3).eval()


def by_timm(path: Path, images: torch.Tensor) -> list[torch.Tensor]:
    """What the last block of each size gives in timm's whole classifier."""
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    network.load_state_dict(torch.load(path, weights_only=True))
    found: list[torch.Tensor] = []
    for number in (1, 2, 4, 6):  # 1/4, 1/8, 1/16, 1/32 of the size
        network.blocks[number].register_forward_hook(lambda _m, _x, out: found.append(out))
    with torch.no_grad():
        network((images - 0.5) / 0.5)
    return found


def images() -> torch.Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [NAME, f"tu-{NAME}"])
def test_levels_are_those_of_timms_network(lite0, name):
    with torch.no_grad():
        levels = build(lite0, name)(images())
    for level, expected in zip(levels[1:], by_timm(lite0, images()), strict=True):
        torch.testing.assert_close(level, expected, atol=1e-4, rtol=1e-4)


def test_the_librarys_copy_takes_every_tensor_and_is_another_network(lite0, caplog):
    """Its batch norm adds 1e-5 to a variance and not 1e-3, and it pads both sides alike: a warning says so."""
    with torch.no_grad():
        last = build(lite0, COPY)(images())[-1]
    assert not torch.allclose(last, by_timm(lite0, images())[-1], atol=1.0)
    report, warning = caplog.messages
    assert "245 of 245 tensors; left out classifier.weight, classifier.bias" in report
    assert f'use encoder = "{NAME}"' in warning


def test_the_report_says_that_everything_matched(lite0, caplog):
    build(lite0, NAME)
    assert caplog.messages == [
        f'{lite0} → encoder "{NAME}": 240 of 240 tensors; left out conv_head.weight, bn2.weight, bn2.bias and 4 more'
    ]


def test_images_are_standardised_as_timm_did(lite0):
    backbone = build(lite0, NAME)
    assert backbone.mean.flatten().tolist() == backbone.deviation.flatten().tolist() == [0.5] * 3


def test_options_go_before_what_timm_says(lite0):
    deviation = (128 / 255,) * 3
    backbone = build(lite0, NAME, mean=(127 / 255,) * 3, deviation=deviation)
    torch.testing.assert_close(backbone.deviation.flatten(), torch.tensor(deviation))


def test_its_features_tell_pictures_apart_better_than_random_ones(lite0):
    """Trained features of two crops of one texture are nearer to each other than to those of another texture."""
    grid = torch.stack(torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij"))
    stripes = (grid[0] / 3).sin()
    rings = ((grid - 48).norm(dim=0) / 2).sin()
    pictures = torch.stack([stripes, stripes.roll(5, 0), rings, rings.roll(5, 1)])
    images = (pictures[:, None].expand(-1, 3, -1, -1) + 1) / 2

    def margin(backbone: torch.nn.Module) -> float:
        with torch.no_grad():
            features = torch.nn.functional.normalize(backbone(images)[-1].mean((2, 3)), dim=1)
        same = (features[0] @ features[1] + features[2] @ features[3]) / 2
        return float(same - features[:2].mean(0) @ features[2:].mean(0))

    torch.manual_seed(0)
    random = SMP(encoder=NAME, output_stride=32).build_backbone(image_size=(96, 96), in_channels=3).eval()
    assert margin(build(lite0, NAME)) > 2 * margin(random) > 0


def test_another_encoder_refuses_the_file(lite0):
    with pytest.raises(DataError, match=r'does not fit the encoder "tf_efficientnet_lite1": 24\d of 3\d\d tensors'):
        build(lite0, "tf_efficientnet_lite1")


def test_a_part_of_it_is_taken_where_that_is_asked_for(lite0, caplog):
    build(lite0, "tf_efficientnet_lite1", partial_weights=True)
    (line,) = caplog.messages
    assert "missing keys" in line
    assert " more" in line
