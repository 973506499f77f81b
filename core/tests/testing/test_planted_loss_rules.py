"""Faults planted in a right loss rule: the contract finds each of them and says what it is."""

import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.testing import LossRuleContract, failures


class Rule(LossRuleContract):
    image_size = (8, 12)


def mean(losses, active):
    """What a right rule does: the mean of the active tasks' losses."""
    return torch.where(active, losses, 0.0).sum() / active.sum().clamp(min=1)


def make(combine, setup=None, **hooks) -> Any:
    body = {"__doc__": "A loss rule.", "combine_losses": hookimpl(combine)}
    body |= {name: hookimpl(hook) for name, hook in hooks.items()}
    if setup is not None:
        body["setup"] = hookimpl(setup)
    return plugin(type("Planted", (nn.Module,) if setup else (), body))()


FAULTS: dict[str, tuple[Any, str, str]] = {}


def fault(check, words, **parts):
    def add(combine):
        FAULTS[combine.__name__] = (make(combine, **parts), f"test_{check}", words)
        return combine

    return add


def learns(self, tasks):
    self.log_sigma = nn.Parameter(torch.zeros(len(tasks)))


@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers")
def keeps_a_moving_average(self, losses, means, active):
    self.past = means.detach() if not hasattr(self, "past") else 0.9 * self.past + 0.1 * means.detach()
    return mean(losses / self.past.clamp(min=1e-3), active)


@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers")
def counts_steps(self, losses, active):
    self.steps = getattr(self, "steps", 0) + 1
    return mean(losses, active) * min(1.0, self.steps / 50)


def at_the_end(self, epoch, metrics):
    self.factor = metrics["train/loss"]


@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers", after_epoch=at_the_end)
def keeps_an_epochs_loss(self, losses, active):
    return mean(losses, active) * getattr(self, "factor", 1.0)


@fault("keeps_no_graph", "keeps the graph alive: before")
def keeps_the_losses(self, losses, active):
    self.before = losses * 1
    return mean(losses, active)


@fault("keeps_no_graph", "keeps the graph alive: history")
def keeps_every_total(self, losses, active):
    self.history = [*getattr(self, "history", []), mean(losses, active)]
    return self.history[-1]


@fault("keeps_no_graph", "keeps the graph alive: the step")
def keeps_the_step(self, losses, active, step):
    self.step = step
    return mean(losses, active)


@fault("leaves_the_backward_pass_to_core", r"calls backward\(\)")
def calls_backward(self, losses, active):
    losses.sum().backward(retain_graph=True)
    return mean(losses, active)


@fault("leaves_the_backward_pass_to_core", "graph of the losses was freed")
def frees_the_graph(self, losses, active, step):
    torch.autograd.grad(losses[0], [step.predictions["segmentation"]])
    return mean(losses, active)


@fault("leaves_the_step_as_it_was", "task_losses was changed in place")
def scales_losses_in_place(self, losses, active):
    losses.data.mul_(2)
    return mean(losses, active)


@fault("leaves_the_step_as_it_was", "step: .*labelled.* replaced")
def replaces_the_mask(self, losses, active, step):
    step.labelled = step.labelled.clone()
    return mean(losses, active)


@fault("leaves_the_step_as_it_was", "predictions: .*depth.* replaced")
def detaches_a_prediction(self, losses, active, step):
    step.predictions["depth"] = step.predictions["depth"].detach()
    return mean(losses, active)


@fault("leaves_the_step_as_it_was", "active was changed in place")
def calls_all_tasks_active(self, losses, active):
    active.fill_(True)
    return mean(losses, active)


@fault("works_for_any_number_of_tasks", "K = 2")
def has_three_weights(self, losses, active):
    weights = torch.tensor([1.0, 2.0, 1.0], device=losses.device)
    return mean(weights * losses, active)


@fault("works_for_any_number_of_tasks", "K = 2")
def names_three_losses(self, losses):
    a, b, c = losses
    return a + b + c


def three(self, tasks):
    self.log_sigma = nn.Parameter(torch.zeros(3))


@fault("works_for_any_number_of_tasks", "K = 2", setup=three)
def learns_three_weights(self, losses, active):
    return mean(losses * (-self.log_sigma).exp() + self.log_sigma, active)


@fault("order_of_tasks_does_not_matter", "look tasks up by name")
def prefers_the_first(self, losses, active):
    weights = torch.ones_like(losses)
    weights[0] = 3
    return mean(weights * losses, active)


@fault("order_of_tasks_does_not_matter", "look tasks up by name")
def weighs_by_place(self, losses, active):
    return mean(losses * torch.arange(1, len(losses) + 1, device=losses.device), active)


@fault("takes_a_batch_of_one", "a batch of one")
def divides_by_the_spread_of_samples(self, losses, active, step):
    return mean(losses, active) / step.losses.detach().std(0).mean()


@fault("reaches_the_network_through_the_losses_alone", "gradient goes through .*means")
def does_not_detach_its_weights(self, losses, means, active):
    weights = torch.where(active, means, -1e9).softmax(0)
    return mean(losses * weights, active)


@fault("reaches_the_network_through_the_losses_alone", "does not depend on the losses|gradient goes through")
def combines_the_means(self, means, active):
    return mean(means, active)


@fault("reaches_the_network_through_the_losses_alone", "gradient goes through .*predictions")
def combines_this_ranks_losses(self, losses, active, step):
    return mean(losses, active) + step.losses.mean()


@fault("reaches_the_network_through_the_losses_alone", "gradient goes through .*depth")
def adds_a_term_on_predictions(self, losses, active, step):
    return mean(losses, active) + 0.1 * step.predictions["depth"].float().square().mean()


@fault("what_an_absent_task_holds_does_not_matter", "leave out tasks that are not active")
def weighs_absent_tasks_too(self, losses, means):
    return (losses * means.detach().softmax(0)).sum()


@fault("an_absent_task_learns_nothing", "log_sigma of a task without labels", setup=learns)
def learns_of_absent_tasks(self, losses):
    return (losses * (-self.log_sigma).exp() + self.log_sigma).sum()


@fault("is_finite_for_losses_of_any_size", "losses times 0.0")
def takes_the_log(self, losses, active):
    return torch.where(active, losses.log(), 0.0).sum()


@fault("is_finite_for_losses_of_any_size", r"losses times 1e\+?10|losses times 10000000000")
def takes_the_exponential(self, losses, active):
    return mean(losses.exp(), active)


@fault("is_finite_for_losses_of_any_size", "losses times 0.0")
def divides_by_the_loss(self, losses, active):
    return mean(losses / losses.detach(), active)


@fault("nan_stays_nan", "a NaN loss became")
def hides_nan(self, losses, active):
    return mean(losses.nan_to_num(0), active)


@fault("no_task_is_trained_against_its_loss", "∂total/∂L")
def subtracts_a_loss(self, losses, active):
    return losses.sum() - 3 * losses.min()


@fault("no_task_is_trained_against_its_loss", "no active task is trained|does not depend")
def returns_a_constant(self, losses, active):
    return losses.sum().detach() + 0 * losses.sum()


@fault("works_for_one_task_that_has_a_label", "the only labelled task has weight")
def centres_its_weights(self, losses, active):
    return (losses * (active.float() - active.float().mean() * len(losses))).sum()


@fault("is_the_same_on_every_rank", "ranks 0 and 1")
def draws_from_the_ranks_generator(self, losses, active, step):
    return mean(losses, active) * torch.rand((), generator=step.generator)


@fault("same_step_same_value", "draw from step.generator")
def draws_from_torch(self, losses, active):
    return mean(losses * torch.rand(len(losses)).to(losses.device), active)


@fault("same_step_same_value", "draw from step.generator")
def draws_from_numpy(self, losses, active):
    return mean(losses, active) * float(np.random.rand())


@fault("same_step_same_value", "draw from step.generator")
def draws_from_python(self, losses, active):
    return mean(losses, active) * random.random()


@fault("runs_on_the_meta_device", "read on the host")
def logs_on_the_host(self, losses, active, step):
    step.log("largest", torch.tensor(losses.max().item()))
    return mean(losses, active)


@fault("runs_on_the_meta_device", "read on the host")
def skips_absent_tasks_on_the_host(self, losses, active):
    return losses[active].mean()


@fault("runs_on_the_meta_device", "read on the host")
def reads_now_and_then(self, losses, active):
    self.steps = getattr(self, "steps", 0) + 1
    scale = float(losses.sum()) if self.steps % 8 == 0 else 1.0
    return mean(losses, active) * (1 + 0 * scale)


def constant(self, tasks):
    self.weights = torch.ones(len(tasks))


@fault("runs_on_the_meta_device", "another device", setup=constant)
def keeps_weights_on_the_host(self, losses, active):
    return mean(losses * self.weights, active)


@fault("is_a_scalar", "expected a scalar")
def returns_the_losses(self, losses):
    return losses


@fault("is_a_scalar", "expected a scalar")
def returns_a_number(self, losses):
    return float(losses.sum())


FAULTS["fills_another_place"] = (
    plugin(type("Planted", (), {"__doc__": "A rule.", "augment": hookimpl(lambda self, images: images)}))(),
    "test_fills_its_place",
    "no @hookimpl combine_losses",
)


@pytest.mark.parametrize("name", list(FAULTS))
def test_the_fault_is_named(name: str) -> None:
    planted, check, words = FAULTS[name]
    with pytest.raises(Exception, match=re.compile(words, re.DOTALL)):
        getattr(Rule(), check)(planted)


def test_a_known_gap_is_one() -> None:
    """A weight that is a thousand times too large trains, too: nothing says what is meant."""

    def a_thousand_times(self, losses, active):
        return 1000 * mean(losses, active)

    assert failures(Rule, make(a_thousand_times)) == {}


def right(self, losses, means, active):
    return mean(losses / means.detach().clamp(min=1e-6), active)


def right_and_learned(self, losses, active):
    return mean(losses * (-self.log_sigma).exp() + self.log_sigma, active)


@pytest.mark.parametrize("plugin", [make(right), make(right_and_learned, setup=learns)])
def test_what_is_right_passes(plugin: Any) -> None:
    assert failures(Rule, plugin) == {}
