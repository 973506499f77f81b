"""A trained network on images of any size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl_core.errors import DataError, MtlError
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.hooks.relay import Hooks
from mtl_core.tasks.classification import Classification
from mtl_core.tasks.regression import Depth
from mtl_core.tasks.tasks import Tasks
from mtl_core.training.session import build_network
from mtl_core.training.trained_network import TrainedNetwork, _padded

TASKS = Tasks([Depth(name="depth"), Classification(name="scene", channels=3)])


class OneSize(nn.Conv2d):
    """A head that gives the image size that it was made for, as decoders of fixed factors do."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__(4, 1, 1)
        self.size = size

    def forward(self, z: Tensor) -> Tensor:
        return F.interpolate(super().forward(z), self.size, mode="bilinear")


class Pooled(nn.Linear):
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z.mean((-2, -1)))


class Halves(nn.Conv2d):
    """Takes even sizes only."""

    channels = 4
    multiple_of = 2

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-1] % 2 or images.shape[-2] % 2:
            raise RuntimeError("odd")
        return super().forward(images)


@plugin
class Fixed:
    """A network whose heads give one size."""

    by_size: bool = False

    @hookimpl
    def build_backbone(self) -> nn.Module:
        return Halves(3, 4, 2, stride=2)

    @hookimpl
    def build_heads(self, image_size: tuple[int, int]) -> nn.ModuleDict:
        values = image_size[0] if self.by_size else 4
        return nn.ModuleDict({"depth": OneSize(image_size), "scene": Pooled(4, 3)}) if values == 4 else odd(values)


def odd(values: int) -> nn.ModuleDict:
    """Weights whose shape follows the image size."""
    head = OneSize((values, values))
    head.extra = nn.Parameter(torch.zeros(values))
    return nn.ModuleDict({"depth": head, "scene": Pooled(4, 3)})


def network(size: tuple[int, int] = (8, 12), **options: bool) -> TrainedNetwork:
    hooks = Hooks({"fixed": Fixed(**options)}, required=("build_backbone", "build_heads"))
    return TrainedNetwork(build_network(0, hooks, TASKS, size), size, hooks)


@pytest.mark.parametrize("size", [(8, 12), (20, 10), (9, 15), (1, 1)])
def test_every_size_gives_predictions_of_that_size(size: tuple[int, int]) -> None:
    found = network()(torch.rand(2, 3, *size))
    assert found["depth"].shape == (2, 1, *size)
    assert found["scene"].shape == (2,)


def test_a_network_made_anew_has_the_trained_weights() -> None:
    trained, image = network(), torch.rand(1, 3, 20, 10)
    head, z = trained.network.heads["depth"], trained.network.backbone(image)
    expected = F.interpolate(F.conv2d(z, head.weight, head.bias), (20, 10), mode="bilinear")  # type: ignore[arg-type]
    assert torch.equal(trained(image)["depth"], expected)
    assert trained(torch.rand(1, 3, 8, 12))["depth"].shape == (1, 1, 8, 12)
    assert torch.equal(trained(image)["depth"], expected)


def test_one_image_has_no_batch_dimension() -> None:
    trained, image = network(), torch.rand(3, 9, 15)
    one, many = trained(image), trained(image[None])
    assert one["depth"].shape == (1, 9, 15)
    assert torch.equal(one["depth"], many["depth"][0])
    assert one["scene"].shape == ()
    assert trained.raw(image)["scene"].shape == (3,)


def test_bytes_are_images_in_0_to_1() -> None:
    trained, image = network(), torch.randint(0, 256, (2, 3, 9, 15), dtype=torch.uint8)
    assert torch.allclose(trained(image)["depth"], trained(image.float() / 255)["depth"])


def test_the_last_rows_and_columns_are_repeated() -> None:
    image = torch.arange(6.0).view(1, 1, 2, 3) / 6
    assert (_padded(image, 4)[0, 0] * 6).tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    assert _padded(image, 1) is image


def test_weights_that_fit_one_size_only() -> None:
    with pytest.raises(MtlError, match="fit images of 8 × 8 pixels only, found 6 × 6; resize the images"):
        network((8, 8), by_size=True)(torch.rand(1, 3, 6, 6))


WRONG = {
    "a str, expected a torch tensor": "photo.jpg",
    r"shape \(2, 8, 8, 3\), expected \(B, 3, H, W\) or \(3, H, W\); put the channels first": torch.rand(2, 8, 8, 3),
    r"shape \(8, 8\)": torch.rand(8, 8),
    "torch.int64, expected torch.uint8": torch.zeros(3, 8, 8, dtype=torch.long),
    "values 0 to 255, expected 0 to 1; divide by 255": torch.tensor([0.0, 255]).repeat(3, 4, 4),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_no_image(message: str) -> None:
    with pytest.raises(DataError, match=message):
        network()(WRONG[message])  # type: ignore[arg-type]
