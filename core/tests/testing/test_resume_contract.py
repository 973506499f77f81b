"""The contract of resumed runs passes what keeps its state in buffers, and rejects what does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.step.step import Step
from mtl_core.testing import ResumeContract, failures

RESUME = "test_a_resumed_run_ends_like_one_that_was_not_stopped"


@plugin
class Keeps(nn.Module):
    """Weighs the losses by a count of steps, in a buffer."""

    @hookimpl
    def setup(self) -> None:
        self.count = nn.Buffer(torch.zeros(()))

    @hookimpl
    def combine_losses(self, losses: Tensor, step: Step) -> Tensor:
        self.count += 1
        return losses.sum() / self.count


@plugin
class Forgets:
    """The same, in an attribute that no checkpoint has."""

    @hookimpl
    def setup(self) -> None:
        self.count = 0

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        self.count += 1
        return losses.sum() / self.count


@plugin
class Draws:
    """Draws from a generator of its own, whose state is lost."""

    @hookimpl
    def setup(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses.sum() * torch.rand((), generator=self.generator)


class Short(ResumeContract):
    settings = {"epochs": 1}
    stop = (0, 2)


class TestKeeps(Short):
    @pytest.fixture
    def plugin(self) -> Keeps:
        return Keeps()


@pytest.mark.parametrize("wrong", [Forgets, Draws])
def test_what_is_not_in_the_checkpoint_is_found(wrong: Any) -> None:
    found = failures(Short, wrong())
    assert set(found) == {RESUME}
    assert "make it a parameter or a buffer" in str(found[RESUME])


def test_a_stop_that_never_comes_is_an_error() -> None:
    class Late(Short):
        stop = (99, 1)

    with pytest.raises(BaseException, match="DID NOT RAISE"):
        Late().resumed_run(Keeps())
