"""The contract of networks passes what is sound and rejects what is not."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing import BackboneContract, failures
from mtl_core.testing.toys import ToyBackbone, ToyNetwork


class Small(BackboneContract):
    image_size = (8, 12)


class Through(nn.Module):
    """A convolution and something after it."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.conv(x), x)

    def after(self, y: Tensor, x: Tensor) -> Tensor:
        return y


class Pyramid(Through):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.conv(x)
        return z, nn.functional.avg_pool2d(z, 2)


@plugin
class TwoLevels:
    """A pyramid of two levels, and heads that use both."""

    @hookimpl
    def build_backbone(self, in_channels: int) -> nn.Module:
        backbone = Pyramid(in_channels, 4)
        backbone.channels = (4, 4)
        return backbone

    @hookimpl
    def build_heads(self, tasks: Tasks) -> nn.ModuleDict:
        return nn.ModuleDict({task.name: Fusing(4, task.channels) for task in tasks})


class Fusing(Through):
    def forward(self, levels: tuple[Tensor, Tensor]) -> Tensor:
        fine, coarse = levels
        return self.conv(fine + nn.functional.interpolate(coarse, fine.shape[-2:]))


def network(backbone: type[Through] = Through, head: type[Through] = Through) -> Any:
    """A plugin with another backbone, or other heads, than the plain ones."""

    @plugin
    class Other:
        """A faulty network."""

        @hookimpl
        def build_backbone(self, in_channels: int) -> nn.Module:
            return backbone(in_channels, 4)

        @hookimpl
        def build_heads(self, tasks: Tasks) -> nn.ModuleDict:
            return nn.ModuleDict({task.name: head(4, task.channels) for task in tasks})

    return Other()


class InPlaceHead(Through):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.relu_(x))


class OverwritesImages(Through):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.sub_(0.5))


class MisnamesChannels(Through):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.channels = 64


class Idle(Through):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.idle = nn.Linear(2, 2)


class Strided(Through):
    def after(self, y: Tensor, x: Tensor) -> Tensor:
        return y[..., ::2, ::2]


class Noisy(Through):
    def after(self, y: Tensor, x: Tensor) -> Tensor:
        return y + torch.rand_like(y)


class OfTheBatch(Through):
    def after(self, y: Tensor, x: Tensor) -> Tensor:
        return y - y.mean(0, keepdim=True)


class Single(Through):
    def after(self, y: Tensor, x: Tensor) -> Tensor:
        return y.float()


class Looking(Through):
    def after(self, y: Tensor, x: Tensor) -> Tensor:
        return y / max(x.abs().max().item(), 1e-3)


class Fixed(Through):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(0.1)


class Counting(Through):
    made = 0

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        Counting.made += 1
        nn.init.constant_(self.conv.weight, Counting.made)


class Unsaved(Through):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.offset = torch.rand(()).item()

    def after(self, y: Tensor, x: Tensor) -> Tensor:
        return y + self.offset


@plugin
class Entangled:
    """Heads that share their first convolution."""

    @hookimpl
    def build_backbone(self, in_channels: int) -> nn.Module:
        return ToyBackbone(4, nn.Conv2d(in_channels, 4, 1))

    @hookimpl
    def build_heads(self, tasks: Tasks) -> nn.ModuleDict:
        common = nn.Conv2d(4, 4, 1)
        return nn.ModuleDict({t.name: nn.Sequential(common, nn.Conv2d(4, t.channels, 1)) for t in tasks})


@plugin
class Headless:
    """Makes only z."""

    @hookimpl
    def build_backbone(self, in_channels: int) -> nn.Module:
        return Through(in_channels, 4)


@pytest.mark.parametrize(
    ("broken", "check", "message"),
    [
        (Headless(), "test_fills_both_places", "build_heads"),
        (network(MisnamesChannels), "test_backbone_names_its_channels", "is 64, z has 4"),
        (network(head=Strided), "test_every_task_has_a_prediction_of_its_shape", "expected"),
        (network(Counting), "test_same_seed_same_network", "built twice"),
        (network(Fixed, Fixed), "test_same_seed_same_network", "another seed"),
        (network(Idle), "test_every_parameter_is_trained", "idle.weight"),
        (Entangled(), "test_heads_share_nothing", "reaches heads"),
        (network(head=InPlaceHead), "test_heads_begin_with_no_in_place_operation", "inplace|another z"),
        (network(OverwritesImages), "test_leaves_images_as_they_were", "images was changed in place"),
        (network(Noisy), "test_evaluation_is_deterministic", "differ"),
        (network(OfTheBatch), "test_images_do_not_see_each_other_in_evaluation", "depends on the batch"),
        (network(head=Single), "test_follows_the_precision", "float32 from a network in float64"),
        (network(head=Unsaved), "test_weights_can_be_saved_and_loaded", "something else"),
        (network(Looking), "test_runs_on_the_meta_device", "meta"),
    ],
)
def test_a_faulty_network_is_rejected(broken: Any, check: str, message: str) -> None:
    with pytest.raises((AssertionError, RuntimeError), match=message):
        getattr(Small(), check)(broken)


@pytest.mark.parametrize("sound", [ToyNetwork(), TwoLevels(), network()])
def test_a_sound_network_passes_every_check(sound: Any) -> None:
    assert failures(Small, sound) == {}
