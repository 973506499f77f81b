"""The contract of loss rules passes what is sound and rejects what is not."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl_core.errors import ContractError
from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.step.step import Step
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing import (
    LossRuleContract,
    failures,
)


class Rule(LossRuleContract):
    image_size = (32, 32)


@plugin
class Sum:
    """Adds the losses up."""

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses.sum()


@plugin
class Learned(nn.Module):
    """Weighs every task with a learned factor, regularized towards 1."""

    @hookimpl
    def setup(self, tasks: Tasks) -> None:
        self.log_weights = nn.Parameter(torch.zeros(len(tasks)))

    @hookimpl
    def combine_losses(self, losses: Tensor, active: Tensor) -> Tensor:
        terms = losses * self.log_weights.exp() + self.log_weights.square()
        return torch.where(active, terms, torch.zeros_like(terms)).sum()


@plugin
class Unreduced:
    """Returns the losses as they are."""

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses


@plugin
class Detached:
    """Loses the graph."""

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses.detach().sum().requires_grad_()


@plugin
class Negative:
    """Weighs tasks against each other."""

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses[0] - losses[1:].sum()


@plugin
class Drifting(Learned):
    """Moves the weight of a task without labels."""

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return (losses * self.log_weights.exp() - self.log_weights).sum()


@plugin
class Relative:
    """Divides by the losses."""

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return (losses / losses.detach()).sum()


@plugin
class Forgiving:
    """Leaves out losses that are NaN."""

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return torch.where(losses.isnan(), torch.zeros_like(losses), losses).sum()


@plugin
class Random:
    """Draws weights from the step's generator, which differs by rank."""

    @hookimpl
    def combine_losses(self, losses: Tensor, step: Step) -> Tensor:
        return (losses * torch.rand(len(losses), generator=step.generator)).sum()


@plugin
class GloballyRandom:
    """Draws weights from the global generator."""

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return (losses * torch.rand(len(losses), device=losses.device)).sum()


@plugin
class Synchronous:
    """Asks the device which tasks are active."""

    @hookimpl
    def combine_losses(self, losses: Tensor, active: Tensor) -> Tensor:
        return losses[active].sum()


@plugin
class Clearing:
    """Overwrites the mask of active tasks."""

    @hookimpl
    def combine_losses(self, losses: Tensor, active: Tensor) -> Tensor:
        active.zero_()
        return losses.sum()


@plugin
class Lazy(nn.Module):
    """Makes its parameters in the first step."""

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        if not hasattr(self, "weights"):
            self.weights = nn.Parameter(torch.ones_like(losses))
        return (losses * self.weights).sum()


@plugin
class Talkative:
    """Logs whole tensors."""

    @hookimpl
    def combine_losses(self, losses: Tensor, step: Step) -> Tensor:
        step.log("losses", losses)
        return losses.sum()


@plugin
class Grouping(Learned):
    """Puts a parameter that is not its own into a group."""

    @hookimpl
    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return [{"params": [nn.Parameter(torch.ones(()))], "lr": learning_rate}]


@plugin
class Picky:
    """Trains the last task only."""

    @hookimpl
    def combine_losses(self, losses: Tensor) -> Tensor:
        return losses[-1] * 1.0


@pytest.mark.parametrize(
    ("broken", "check", "message"),
    [
        (Unreduced(), "test_is_a_scalar", "shape"),
        (Detached(), "test_no_task_is_trained_against_its_loss", "does not depend"),
        (Negative(), "test_no_task_is_trained_against_its_loss", "∂total/∂L"),
        (Drifting(), "test_an_absent_task_learns_nothing", "log_weights"),
        (Relative(), "test_is_finite_for_losses_of_any_size", r"times 0\.0"),
        (Relative(), "test_is_finite_whatever_is_labelled", "absent"),
        (Forgiving(), "test_nan_stays_nan", "became 0"),
        (Random(), "test_is_the_same_on_every_rank", "ranks 0 and 1"),
        (GloballyRandom(), "test_same_step_same_value", "differ"),
        (Synchronous(), "test_runs_on_the_meta_device", "meta|data-dependent|nonzero"),
        (Clearing(), "test_leaves_the_step_as_it_was", "active was changed"),
        (Lazy(), "test_learns_what_setup_made_and_saves_it", "make them in setup"),
        (Talkative(), "test_logs_scalars", "losses"),
        (Grouping(), "test_its_parameter_groups_hold_its_own_parameters", "does not have"),
        (Picky(), "test_works_for_one_task_that_has_a_label", "weight 0"),
    ],
)
def test_a_faulty_loss_rule_is_rejected(broken: Any, check: str, message: str) -> None:
    with pytest.raises((AssertionError, RuntimeError, ContractError), match=message):
        getattr(Rule(), check)(broken)


@pytest.mark.parametrize("sound", [Sum(), Learned()])
def test_a_sound_loss_rule_passes_every_check(sound: Any) -> None:
    assert failures(Rule, sound) == {}
