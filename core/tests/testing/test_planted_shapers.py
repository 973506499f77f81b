"""Faults planted in a right gradient shaper: the contract finds each of them and says what it is."""

import random
import re
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import nn

from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.step.encoder_gradients import Shaped
from mtl_core.testing import GradientShaperContract, failures


class Shaper(GradientShaperContract):
    image_size = (8, 12)


class Elementwise(Shaper):
    elementwise = True


def balanced(g):
    """What a right shaper does: 1/‖b_t‖ for the branches that something reached."""
    return torch.where(g.reached, 1 / g.norms, torch.zeros_like(g.norms))


def make(shape, setup=None, **hooks) -> Any:
    body = {"__doc__": "A gradient shaper.", "shape_encoder_gradient": hookimpl(shape)}
    body |= {name: hookimpl(hook) for name, hook in hooks.items()}
    if setup is not None:
        body["setup"] = hookimpl(setup)
    return plugin(type("Planted", (nn.Module,) if setup else (), body))()


FAULTS: dict[str, tuple[Any, str, str, type[Shaper]]] = {}


def fault(check, words, contract=Shaper, **parts):
    def add(shape):
        FAULTS[shape.__name__] = (make(shape, **parts), f"test_{check}", words, contract)
        return shape

    return add


def remembers(self, tasks):
    self.mean = nn.Buffer(torch.ones(len(tasks), dtype=torch.float64))


@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers")
def counts_steps(self, gradients):
    self.steps = getattr(self, "steps", 0) + 1
    return balanced(gradients) * min(1.0, self.steps / 50)


@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers")
def starts_after_six_steps(self, gradients):
    self.steps = getattr(self, "steps", 0) + 1
    return balanced(gradients) * (1.0 if self.steps < 8 else 0.5)


@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers")
def keeps_an_average(self, gradients):
    now = gradients.norms
    self.mean = now if not hasattr(self, "mean") else 0.9 * self.mean + 0.1 * now
    return torch.where(gradients.reached, 1 / self.mean, 0.0)


def not_saved(self, tasks):
    self.register_buffer("mean", torch.ones(len(tasks), dtype=torch.float64), persistent=False)


@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers", setup=not_saved)
def proposes_what_is_not_saved(self, gradients):
    return Shaped(balanced(gradients) * self.mean, {"mean": self.mean + 1})


@fault("state_is_proposed_and_not_written", "mean was changed in place", setup=remembers)
def writes_its_state(self, gradients):
    self.mean.add_(1)
    return balanced(gradients) * self.mean


@fault("state_is_proposed_and_not_written", "something was remembered")
def alternates(self, gradients):
    self.odd = not getattr(self, "odd", False)
    return balanced(gradients) * (1.0 if self.odd else 2.0)


@fault("state_is_proposed_and_not_written", "drawn from a global generator")
def draws_from_torch(self, gradients):
    return balanced(gradients) * torch.rand(len(gradients.tasks), dtype=torch.float64).to(gradients.gramian)


@fault("state_is_proposed_and_not_written", "drawn from a global generator")
def draws_from_numpy(self, gradients):
    return balanced(gradients) * float(np.random.rand())


@fault("state_is_proposed_and_not_written", "drawn from a global generator")
def draws_from_python(self, gradients):
    return balanced(gradients) * random.random()


@fault("is_the_same_on_every_rank", "ranks 0 and 1")
def draws_from_the_ranks_generator(self, gradients):
    if gradients.step is None:
        return balanced(gradients)
    return balanced(gradients) * float(torch.rand((), generator=gradients.step.generator))


@fault("keeps_no_graph", "keeps the graph alive: the gradients")
def keeps_the_gradients(self, gradients):
    self.last = gradients
    return balanced(gradients)


@fault("keeps_no_graph", "keeps the graph alive: .*the step")
def keeps_the_step(self, gradients):
    self.step = gradients.step
    return balanced(gradients)


@fault("keeps_no_graph", "keeps the graph alive: last")
def keeps_the_losses(self, gradients):
    if gradients.step is not None:
        with torch.enable_grad():
            self.last = gradients.step.task_losses * 1
    return balanced(gradients)


@fault("keeps_no_graph", "of the answer have a gradient")
def answers_with_a_graph(self, gradients):
    if gradients.step is None:
        return balanced(gradients)
    with torch.enable_grad():
        return balanced(gradients) * gradients.step.task_losses.sum()


@fault("leaves_the_backward_pass_to_core", r"calls backward\(\)")
def calls_backward(self, gradients):
    if gradients.step is not None:
        with torch.enable_grad():
            gradients.step.task_losses.sum().backward()
    return balanced(gradients)


@fault("leaves_the_gradients_as_they_were", "gramian was changed in place")
def normalises_the_gramian_in_place(self, gradients):
    weights = balanced(gradients)
    gradients.gramian.div_(gradients.gramian.abs().max().clamp(min=1e-30))
    return weights


@fault("leaves_the_gradients_as_they_were", r"branches\[\d\] was changed in place")
def scales_a_branch_in_place(self, gradients):
    for branch in gradients.branches:
        branch[0].mul_(2)
    return balanced(gradients)


@fault("leaves_the_gradients_as_they_were", "gradients: .*active.* replaced")
def replaces_the_active_tasks(self, gradients):
    gradients.active = torch.ones_like(gradients.active)
    return balanced(gradients)


@fault("leaves_the_gradients_as_they_were", "targets had .* and has")
def writes_into_the_steps_labels(self, gradients):
    if gradients.step is not None:
        gradients.step.targets["seen"] = gradients.norms
    return balanced(gradients)


@fault("works_for_any_number_of_tasks", "K = 2")
def has_three_weights(self, gradients):
    return balanced(gradients) * torch.tensor([1.0, 2.0, 3.0]).to(gradients.gramian)


@fault("works_for_any_number_of_tasks", "K = 2")
def names_three_norms(self, gradients):
    a, b, c = balanced(gradients)
    return torch.stack((a, b, c))


def three(self, tasks):
    self.mean = nn.Buffer(torch.ones(3, dtype=torch.float64))


@fault("works_for_any_number_of_tasks", "K = 2", setup=three)
def remembers_three(self, gradients):
    return Shaped(balanced(gradients) * self.mean, {"mean": self.mean})


@fault("order_of_tasks_does_not_matter", "look tasks up by name")
def prefers_the_first(self, gradients):
    weights = balanced(gradients)
    weights[0] = 3 * weights[0]
    return weights


@fault("order_of_tasks_does_not_matter", "look tasks up by name")
def weighs_by_place(self, gradients):
    return balanced(gradients) * torch.arange(1, len(gradients.tasks) + 1).to(gradients.gramian)


@fault("takes_a_pyramid", "pyramid", contract=Elementwise)
def takes_the_first_level_alone(self, gradients):
    return (torch.stack([branch[0] for branch in gradients.branches]).sum(0),)


@fault("takes_a_pyramid", "pyramid", contract=Elementwise)
def takes_every_level_for_reached(self, gradients):
    return tuple(sum(level * 1 for level in levels) for levels in zip(*gradients.branches, strict=True))


@fault("answers_with_weights_or_a_gradient_like_z", "expected")
def gives_a_weight_too_many(self, gradients):
    return torch.ones(len(gradients.tasks) + 1, dtype=gradients.gramian.dtype)


@fault("answers_with_weights_or_a_gradient_like_z", "returned None")
def gives_nothing_now_and_then(self, gradients):
    return balanced(gradients) if gradients.step is not None else None


@fault("is_finite_for_finite_gradients", "first row zero|last row zero")
def divides_by_nothing(self, gradients):
    return 1 / gradients.norms


@fault("is_finite_for_finite_gradients", "random|tiny|huge")
def inverts_the_gramian(self, gradients):
    g = gradients.gramian.float()
    return (torch.linalg.inv_ex(g * 1e20 + 1e-30 * torch.eye(len(g)))[0].sum(1) * torch.inf).to(gradients.gramian)


@fault("nan_stays_nan", "disappeared", contract=Elementwise)
def hides_nan_in_the_gradient(self, gradients):
    return tuple(
        torch.stack([level for level in levels if level is not None]).sum(0).nan_to_num(0)
        for levels in zip(*gradients.branches, strict=True)
    )


@fault("a_branch_that_nothing_reached_stops_nobody", "nothing enters")
def multiplies_all_norms(self, gradients):
    return torch.ones_like(gradients.norms) * gradients.norms.prod().sign()


@fault("a_branch_alone_keeps_its_direction", "another direction", contract=Elementwise)
def keeps_positive_entries(self, gradients):
    return tuple(
        torch.stack([level for level in levels if level is not None]).sum(0).clamp(min=0)
        for levels in zip(*gradients.branches, strict=True)
    )


@fault("scale_invariance", "another scale")
def adds_a_constant_to_norms(self, gradients):
    return torch.where(gradients.reached, 1 / (gradients.norms + 1e-3), 0.0)


@fault("the_gramian_is_enough", "this rank's branches")
def looks_at_its_own_branches(self, gradients):
    if not gradients.branches:
        return balanced(gradients)
    own = torch.stack([sum(level.square().sum() for level in b if level is not None) for b in gradients.branches])
    return torch.where(gradients.reached, 1 / own, 0.0)


@fault("runs_on_the_meta_device", "read on the host")
def computes_in_numpy(self, gradients):
    return torch.from_numpy(balanced(gradients).cpu().numpy()).to(gradients.gramian)


@fault("runs_on_the_meta_device", "read on the host")
def asks_whether_tasks_conflict(self, gradients):
    return balanced(gradients) * (1.0 if (gradients.gramian >= 0).all() else 2.0)


@fault("runs_on_the_meta_device", "read on the host")
def reads_now_and_then(self, gradients):
    self.steps = getattr(self, "steps", 0) + 1
    if self.steps % 10 == 0:
        float(gradients.norms.sum())
    return balanced(gradients)


@fault("runs_on_the_meta_device", "answer on|another device")
def answers_on_the_host(self, gradients):
    return torch.ones(len(gradients.tasks), dtype=gradients.gramian.dtype)


def learned(self, tasks):
    self.weights = nn.Parameter(torch.ones(len(tasks), dtype=torch.float64))


@fault("state_is_made_of_buffers", "make them buffers", setup=learned)
def has_a_parameter(self, gradients):
    return balanced(gradients) * self.weights.detach()


@fault("answers_with_weights_or_a_gradient_like_z", "no buffer of this name", setup=remembers)
def proposes_an_unknown_state(self, gradients):
    return Shaped(balanced(gradients), {"average": self.mean})


@fault("answers_with_weights_or_a_gradient_like_z", "its buffer is", setup=remembers)
def proposes_a_state_of_another_shape(self, gradients):
    return Shaped(balanced(gradients), {"mean": self.mean[:1]})


@pytest.mark.parametrize("name", list(FAULTS))
def test_the_fault_is_named(name: str) -> None:
    planted, check, words, contract = FAULTS[name]
    with pytest.raises(Exception, match=re.compile(words, re.DOTALL)):
        getattr(contract(), check)(planted)


def test_a_known_gap_is_one() -> None:
    """A method may turn the gradient round: which way is meant is known to its author alone."""

    def upwards(self, gradients):
        return balanced(gradients) * (1 if len(gradients.tasks) == 1 else 1e-3)

    assert failures(Shaper, make(upwards)) == {}


def right_with_state(self, gradients):
    return Shaped(balanced(gradients) * self.mean, {"mean": 0.9 * self.mean + 0.1})


def right_by_levels(self, gradients):
    return tuple(
        torch.stack([level for level in levels if level is not None]).sum(0)
        for levels in zip(*gradients.branches, strict=True)
    )


def right(self, gradients):
    return attrs.evolve(Shaped(balanced(gradients)))


@pytest.mark.parametrize(
    ("plugin", "contract"),
    [(make(right), Shaper), (make(right_with_state, setup=remembers), Shaper), (make(right_by_levels), Elementwise)],
)
def test_what_is_right_passes(plugin: Any, contract: type[Shaper]) -> None:
    assert failures(contract, plugin) == {}
