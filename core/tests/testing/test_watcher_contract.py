"""The contract of gradient watchers passes what is sound and rejects what is not."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.step.encoder_gradients import EncoderGradients
from mtl_core.testing import GradientWatcherContract, failures


@plugin
class Longest(nn.Module):
    """Remembers the longest branch that ever arrived."""

    @hookimpl
    def setup(self) -> None:
        self.longest = nn.Buffer(torch.zeros(()))

    @hookimpl
    def watch_encoder_gradient(self, gradients: EncoderGradients) -> dict[str, Tensor]:
        return {"longest": torch.maximum(self.longest, self.measure(gradients))}

    def measure(self, gradients: EncoderGradients) -> Tensor:
        return gradients.norms.max()


@plugin
class Only(Longest):
    """Remembers nothing."""

    @hookimpl
    def watch_encoder_gradient(self, gradients: EncoderGradients) -> None:
        return None


@plugin
class Misnamed(Longest):
    """Proposes what it does not have."""

    @hookimpl
    def watch_encoder_gradient(self, gradients: EncoderGradients) -> dict[str, Tensor]:
        return {"largest": self.measure(gradients)}


@plugin
class Misshapen(Longest):
    """Proposes one number per task for a buffer of one."""

    def measure(self, gradients: EncoderGradients) -> Tensor:
        return gradients.norms


@plugin
class Writes(Longest):
    """Remembers at once."""

    def measure(self, gradients: EncoderGradients) -> Tensor:
        self.longest.copy_(gradients.norms.max())
        return self.longest


@plugin
class Divides(Longest):
    """Divides by the shortest branch."""

    def measure(self, gradients: EncoderGradients) -> Tensor:
        return 1 / gradients.norms.min()


@plugin
class OfThisRank(Longest):
    """Looks at a rank's own branches."""

    def measure(self, gradients: EncoderGradients) -> Tensor:
        return torch.tensor(float(len(gradients.branches)))


@plugin
class Draws(Longest):
    """Draws differently on every rank."""

    def measure(self, gradients: EncoderGradients) -> Tensor:
        step = gradients.step
        return gradients.norms.max() * (1 if step is None else 2 + torch.rand((), generator=step.generator))


@plugin
class Scales(Longest):
    """Writes into the Gramian."""

    def measure(self, gradients: EncoderGradients) -> Tensor:
        return gradients.gramian.mul_(2).diagonal().max()


@plugin
class Syncs(Longest):
    """Waits for the device."""

    def measure(self, gradients: EncoderGradients) -> Tensor:
        return torch.tensor(gradients.norms.max().item())


@pytest.mark.parametrize("sound", [Longest, Only])
def test_what_is_sound_passes(sound: Any) -> None:
    assert failures(GradientWatcherContract, sound()) == {}


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Misnamed, "test_proposes_buffers_of_its_own"),
        (Misshapen, "test_proposes_buffers_of_its_own"),
        (Writes, "test_state_is_proposed_and_not_written"),
        (Divides, "test_is_finite_for_finite_gradients"),
        (OfThisRank, "test_the_gramian_is_enough"),
        (Draws, "test_is_the_same_on_every_rank"),
        (Scales, "test_leaves_the_gradients_as_they_were"),
        (Syncs, "test_runs_on_the_meta_device"),
    ],
)
def test_what_is_not_is_rejected(broken: Any, check: str) -> None:
    assert check in failures(GradientWatcherContract, broken())
