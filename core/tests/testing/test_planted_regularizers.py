"""Faults planted in a right regularizer: the contract finds each of them and says what it is."""

import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mtl_core.hooks.markers import hookimpl
from mtl_core.hooks.plugin import plugin
from mtl_core.testing import RegularizerContract, failures


class Regular(RegularizerContract):
    image_size = (16, 24)


class DepthOnly(Regular):
    trained = ("depth",)


def squares(step):
    return torch.stack([p.float().square().mean() for p in step.predictions.values()]).sum()


def depth_error(step, prediction=None):
    """Mean absolute error of depth over valid pixels: what a right plugin does."""
    prediction = step.predictions["depth"][0].float() if prediction is None else prediction
    valid = step.valid("depth")
    error = (prediction - step.tasks["depth"].encode(step.targets["depth"])).abs()
    return torch.where(valid, error, 0.0).sum() / valid.sum().clamp(min=1)


def make(compute, setup=None, views=1, **hooks) -> Any:
    body = {"__doc__": "A regularizer.", "views": views, "compute_regularizer": hookimpl(compute)}
    body |= {name: hookimpl(hook) for name, hook in hooks.items()}
    if setup is not None:
        body["setup"] = hookimpl(setup)
    return plugin(type("Planted", (nn.Module,) if setup else (), body))()


FAULTS: dict[str, tuple[Any, str, str, type[Regular]]] = {}


def fault(check, words, contract=Regular, **parts):
    def add(compute):
        FAULTS[compute.__name__] = (make(compute, **parts), f"test_{check}", words, contract)
        return compute

    return add


def remembers(self, tasks):
    self.mean = nn.Buffer(torch.zeros(()))


def learns(self, tasks):
    self.scale = nn.Parameter(torch.ones(()))


# ---------------------------------------------------------------------------------------------- state outside buffers
@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers")
def counts_in_an_attribute(self, step):
    self.count = getattr(self, "count", 0) + 1
    return {"pull": squares(step) * min(1.0, self.count / 100)}


@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers")
def warms_up_in_an_attribute_late(self, step):
    self.count = getattr(self, "count", 0) + 1
    return {"pull": squares(step) * (0.0 if self.count < 7 else 1.0)}


@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers")
def keeps_a_moving_average(self, step):
    now = squares(step)
    self.mean = now.detach() if not hasattr(self, "mean") else 0.9 * self.mean + 0.1 * now.detach()
    return {"pull": now / self.mean.clamp(min=1e-3)}


@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers")
def keeps_a_list(self, step):
    self.past = [*getattr(self, "past", []), float(step.index.sum()) + len(getattr(self, "past", []))]
    return {"pull": squares(step) * sum(self.past)}


def not_saved(self, tasks):
    self.register_buffer("mean", torch.zeros(()), persistent=False)


@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers", setup=not_saved)
def has_a_buffer_that_is_not_saved(self, step):
    self.mean.add_(1)
    return {"pull": squares(step) * self.mean}


def plain_tensor(self, tasks):
    self.mean = torch.zeros(())


@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers", setup=plain_tensor)
def has_a_tensor_that_is_no_buffer(self, step):
    self.mean.add_(1)
    return {"pull": squares(step) * self.mean}


def own_generator(self, tasks):
    self.own = torch.Generator().manual_seed(0)


@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers", setup=own_generator)
def draws_from_a_generator_of_its_own(self, step):
    return {"pull": squares(step) * torch.rand((), generator=self.own)}


def later(self, epoch, metrics):
    self.epochs = getattr(self, "epochs", 0) + 1


@fault("goes_on_where_a_checkpoint_stopped", "state outside buffers", after_epoch=later)
def counts_epochs_in_an_attribute(self, step):
    return {"pull": squares(step) * (1 + getattr(self, "epochs", 0))}


SHARED = {"steps": 0}


@fault("same_step_same_value", "two runs of one step differ")
def counts_in_the_module(self, step):
    SHARED["steps"] += 1
    return {"pull": squares(step) * SHARED["steps"]}


@fault("learns_what_setup_made_and_saves_it", "made in a step", setup=learns)
def makes_a_buffer_in_the_step(self, step):
    self.last = nn.Buffer(torch.zeros(()))
    return {"pull": squares(step) * self.scale}


# ---------------------------------------------------------------------------------------------------- random draws
@fault("same_step_same_value", "draw from step.generator")
def draws_from_torch(self, step):
    return {"noise": squares(step) * torch.rand(())}


@fault("same_step_same_value", "draw from step.generator")
def draws_from_numpy(self, step):
    return {"noise": squares(step) * float(np.random.rand())}


@fault("same_step_same_value", "draw from step.generator")
def draws_from_python(self, step):
    return {"noise": squares(step) * random.random()}


@fault("same_step_same_value", "draw from step.generator")
def drops_out(self, step):
    return {"noise": F.dropout(step.predictions["depth"].float().square()).mean()}


# ------------------------------------------------------------------------------------------------- graph kept alive
@fault("keeps_no_graph", "keeps the graph alive: last")
def keeps_its_last_term(self, step):
    self.last = squares(step)
    return {"pull": self.last}


@fault("keeps_no_graph", "keeps the graph alive: past")
def keeps_all_its_terms(self, step):
    self.past = [*getattr(self, "past", []), squares(step)]
    return {"pull": self.past[-1]}


@fault("keeps_no_graph", "keeps the graph alive: the step")
def keeps_the_step(self, step):
    self.step = step
    return {"pull": squares(step)}


@fault("keeps_no_graph", "keeps the graph alive: .*predictions.depth")
def keeps_the_predictions(self, step):
    self.depth = step.predictions["depth"]
    return {"pull": squares(step)}


KEPT = []


@fault("keeps_no_graph", "keeps the graph alive")
def keeps_terms_in_the_module(self, step):
    KEPT.append(squares(step))
    return {"pull": KEPT[-1]}


@fault("logs_scalars", "keeps the graph alive: logged")
def logs_with_the_graph(self, step):
    step.logged["pull"] = squares(step)
    return {"pull": squares(step)}


# ------------------------------------------------------------------------------------- gradients that must not be
@fault("heads_that_get_nothing_get_nothing", "trains the heads of .*segmentation", contract=DepthOnly)
def trains_the_head_that_only_guides(self, step):
    guide = step.predictions["segmentation"][0].float().softmax(1).amax(1, keepdim=True)
    return {"guided": (guide * step.predictions["depth"][0].float().square()).mean()}


@fault("heads_that_get_nothing_get_nothing", "trains the heads of .*normals", contract=DepthOnly)
def trains_every_head(self, step):
    return {"pull": squares(step)}


@fault("leaves_the_step_as_it_was", r"targets.depth.requires_grad was changed")
def asks_for_a_gradient_of_labels(self, step):
    step.targets["depth"].requires_grad_()
    return {"depth": depth_error(step)}


@fault("leaves_the_step_as_it_was", "predictions.depth.requires_grad was changed")
def takes_gradients_from_a_prediction(self, step):
    step.predictions["depth"].requires_grad_(False)
    return {"pull": squares(step)}


@fault("leaves_the_backward_pass_to_core", r"calls backward\(\)")
def calls_backward(self, step):
    term = squares(step)
    term.backward(retain_graph=True)
    return {"pull": term}


@fault("leaves_the_backward_pass_to_core", r"calls backward\(\)", setup=learns)
def calls_backward_for_its_own_part(self, step):
    (squares(step).detach() * self.scale).backward()
    return {"pull": squares(step) * self.scale}


@fault("leaves_the_backward_pass_to_core", "graph of the losses was freed")
def frees_the_graph_of_the_losses(self, step):
    torch.autograd.grad(step.task_losses.sum(), [step.predictions["depth"]])
    return {"pull": squares(step)}


@fault("leaves_the_step_as_it_was", "plugin.scale was changed in place", setup=learns)
def steps_its_own_optimizer(self, step):
    (g,) = torch.autograd.grad(squares(step).detach() * self.scale, [self.scale])
    with torch.no_grad():
        self.scale -= 0.1 * g
    return {"pull": squares(step) * self.scale.detach() + 0 * self.scale}


# ------------------------------------------------------------------------------------------ what is given, changed
@fault("leaves_the_step_as_it_was", "predictions: .*depth.* replaced")
def replaces_a_prediction(self, step):
    step.predictions["depth"] = step.predictions["depth"].float().clamp(min=0)
    return {"pull": squares(step)}


@fault("leaves_the_step_as_it_was", "targets: .*depth.* replaced")
def replaces_a_label(self, step):
    step.targets["depth"] = step.targets["depth"] * 1.0
    return {"depth": depth_error(step)}


@fault("leaves_the_step_as_it_was", "targets had .* and has")
def adds_a_label(self, step):
    step.targets["guess"] = step.targets["depth"] * 1.0
    return {"depth": depth_error(step)}


@fault("leaves_the_step_as_it_was", "step: .*labelled.* replaced")
def replaces_the_label_mask(self, step):
    step.labelled = torch.ones_like(step.labelled)
    return {"pull": squares(step)}


@fault("leaves_the_step_as_it_was", "targets.depth was changed in place")
def fills_labels_in(self, step):
    step.targets["depth"].clamp_(min=0.1)
    return {"pull": squares(step)}


@fault("leaves_the_step_as_it_was", "labelled was changed in place")
def marks_everything_labelled(self, step):
    step.labelled.fill_(True)
    return {"pull": squares(step)}


# ------------------------------------------------------------------------------------------------- K hard-coded
@fault("works_for_any_number_of_tasks", "K = 2")
def knows_three_tasks(self, step):
    weights = torch.tensor([1.0, 2.0, 3.0], device=step.labelled.device)
    parts = torch.stack([p.float().square().mean() for p in step.predictions.values()])
    return {"pull": (weights * parts).sum()}


@fault("order_of_tasks_does_not_matter", "look tasks up by name")
def knows_places(self, step):
    parts = [p.float().square().mean() for p in step.predictions.values()]
    return {"pull": 2 * parts[0] + parts[1]}


@fault("order_of_tasks_does_not_matter", "look tasks up by name")
def looks_at_the_second_column(self, step):
    size = step.predictions["depth"][0].float().square().mean((1, 2, 3))
    has = step.labelled[:, 1] & (step.task_losses[1] > step.task_losses[0])
    return {"depth": torch.where(has, size, 0.0).mean()}


def three_scales(self, tasks):
    self.scale = nn.Parameter(torch.ones(3))


@fault("works_for_any_number_of_tasks", "K = 2", setup=three_scales)
def learns_for_three_tasks(self, step):
    parts = torch.stack([p.float().square().mean() for p in step.predictions.values()])
    return {"pull": (self.scale * parts).sum()}


@fault("works_for_any_number_of_tasks", "K = 2.*normals")
def needs_normals_and_does_not_say_so(self, step):
    return {"pull": step.predictions["normals"].float().square().mean()}


@fault("takes_a_kind_whose_head_has_other_channels", "head has other channels")
def compares_heads_with_labels(self, step):
    raw = step.predictions["depth"][0].float()
    known = step.tasks["depth"].encode(step.targets["depth"])
    both = torch.cat((raw, known), 1).view(len(raw), 2, *raw.shape[-2:])
    return {"depth": torch.where(step.valid("depth"), (both[:, :1] - both[:, 1:]).abs(), 0.0).mean()}


# -------------------------------------------------------------------------------------- batch of one, sizes, pyramids
@fault("takes_a_batch_of_one", "a batch of one")
def squeezes_the_batch_away(self, step):
    depth = step.predictions["depth"][0].float().squeeze()
    return {"depth": depth.square().flatten(1).mean(1)[: len(step.labelled)].view(len(step.labelled), 1).mean()
            + depth.permute(1, 2, 0).mean()}  # fmt: skip


@fault("takes_a_batch_of_one", "a batch of one")
def normalises_over_the_batch(self, step):
    size = step.predictions["depth"][0].float().square().mean((1, 2, 3))
    return {"depth": (size / size.std()).mean()}


@fault("takes_a_batch_of_one", "a batch of one")
def compares_with_the_next_sample(self, step):
    depth = step.predictions["depth"][0].float()
    return {"depth": (depth[1] - depth[0]).square().mean()}


@fault("takes_a_batch_of_one", "a batch of one")
def knows_the_batch_size(self, step):
    return {"depth": step.predictions["depth"][0].float().view(4, 1, 16, 24).square().mean()}


@fault("takes_odd_sizes", "33 × 47")
def halves_and_doubles(self, step):
    depth = step.predictions["depth"][0].float()
    return {"smooth": (F.interpolate(F.avg_pool2d(depth, 2), scale_factor=2) - depth).abs().mean()}


@fault("takes_odd_sizes", "33 × 47")
def cuts_into_quarters(self, step):
    b, c, h, w = step.predictions["depth"][0].shape
    parts = step.predictions["depth"][0].float().view(b, c, h // 4, 4, w // 4, 4)
    return {"patches": parts.mean((3, 5)).square().mean()}


@fault("takes_odd_sizes", "33 × 47")
def knows_the_image_size(self, step):
    return {"depth": step.predictions["depth"].float().view(-1, 16 * 24).square().mean()}


@fault("takes_a_pyramid", "pyramid")
def takes_z_for_a_tensor(self, step):
    return {"z": step.features.float().square().mean() + 0 * squares(step)}


@fault("takes_a_pyramid", "pyramid")
def lays_z_on_the_image(self, step):
    z = step.features if isinstance(step.features, torch.Tensor) else step.features[0]
    energy = z.float().square().mean(1, keepdim=True)
    return {"z": (energy * step.predictions["depth"].flatten(0, 1).float().square()).mean()}


# ------------------------------------------------------------------------------------------- host copies, devices
@fault("runs_on_the_meta_device", "read on the host")
def reads_a_value(self, step):
    return {"pull": squares(step) / max(1.0, squares(step).item())}


@fault("runs_on_the_meta_device", "read on the host")
def branches_on_a_value(self, step):
    return {"pull": squares(step) * (2 if step.labelled.all() else 1)}


@fault("runs_on_the_meta_device", "read on the host")
def copies_to_numpy(self, step):
    share = step.labelled.float().cpu().numpy().mean()
    return {"pull": squares(step) * float(share)}


@fault("runs_on_the_meta_device", "read on the host")
def loops_over_labelled_samples(self, step):
    rows = [row for row, has in zip(step.predictions["depth"][0], step.labelled[:, 1], strict=True) if has]
    return {"pull": squares(step) + 0 * sum(row.float().mean() for row in rows)}


@fault("runs_on_the_meta_device", "read on the host")
def selects_labelled_samples(self, step):
    rows = step.predictions["depth"][0][step.labelled.any(1)]
    return {"pull": squares(step) + 0 * rows.float().sum()}


@fault("runs_on_the_meta_device", "read on the host")
def reads_a_value_now_and_then(self, step):
    self.count = getattr(self, "count", 0) + 1
    if self.count % 10 == 0:
        step.log("size", torch.tensor(squares(step).item()))
    return {"pull": squares(step)}


@fault("runs_on_the_meta_device", "another device")
def makes_a_tensor_on_the_host(self, step):
    return {"pull": (step.predictions["depth"].float() * torch.ones(16, 24)).square().mean()}


def not_a_buffer(self, tasks):
    self.weights = torch.ones(16, 24)


@fault("runs_on_the_meta_device", "another device", setup=not_a_buffer)
def keeps_a_constant_on_the_host(self, step):
    return {"pull": (step.predictions["depth"].float() * self.weights).square().mean()}


# ------------------------------------------------------------------------------------------------ half precision
@fault("computes_half_precision_in_float32", "promote predictions to float32")
def sums_in_half_precision(self, step):
    return {"pull": torch.stack([p.square().mean() for p in step.predictions.values()]).sum()}


@fault("sums_in_single_precision", "taken in bfloat16")
def hides_half_precision_behind_a_factor(self, step):
    factor = torch.ones((), dtype=torch.float32, device=step.labelled.device).expand(1)
    return {"pull": (factor * step.predictions["depth"].square().mean()).sum()}


@fault("sums_in_single_precision", "taken in bfloat16")
def hides_half_precision_behind_a_cast(self, step):
    return {"pull": step.predictions["depth"].square().mean((1, 2, 3, 4)).float().sum()}


@fault("sums_in_single_precision", "taken in bfloat16")
def hides_half_precision_of_one_part(self, step):
    return {"pull": squares(step) + step.predictions["depth"].square().sum().float() * 1e-6}


# --------------------------------------------------------------------------------------------- labels and graphs
@fault("what_an_invalid_pixel_holds_does_not_matter", "became")
def reads_blanks(self, step):
    return {"depth": F.l1_loss(step.predictions["depth"][0].float(), step.targets["depth"])}


@fault("is_finite_whatever_is_labelled", "nan")
def divides_by_no_label(self, step):
    valid = step.valid("depth")
    error = (step.predictions["depth"][0].float() - step.targets["depth"]).abs()
    return {"depth": (error * valid).sum() / valid.sum()}


@fault("has_the_same_terms_whatever_is_labelled", "return a zero")
def leaves_its_term_out(self, step):
    return {"depth": depth_error(step)} if step.labelled.any() else {}


@fault("builds_the_same_graph_whatever_is_labelled", "does not depend on its inputs")
def returns_a_constant(self, step):
    return {"depth": depth_error(step) if step.labelled.any() else torch.zeros(())}


@fault("builds_the_same_graph_whatever_is_labelled", "only .* are reached", setup=learns)
def leaves_its_parameter_out(self, step):
    return {"depth": depth_error(step) * (self.scale if step.labelled.any() else 1)}


@fault("every_parameter_is_trained", "parameters without gradient", setup=learns)
def has_an_idle_parameter(self, step):
    return {"pull": squares(step)}


@fault("terms_are_scalars_or_sums_with_counts", "expected .*scalar")
def returns_a_value_per_sample(self, step):
    return {"depth": step.predictions["depth"][0].float().square().mean((1, 2, 3))}


@fault("terms_are_scalars_or_sums_with_counts", "by name")
def returns_a_bare_tensor(self, step):
    return squares(step)


@fault("logs_scalars", "expected a scalar")
def logs_a_map(self, step):
    step.log("map", step.predictions["depth"])
    return {"pull": squares(step)}


GAPS: dict[str, tuple[Any, str]] = {}
"""Faults that no check finds, with the reason."""


def gap(reason, **parts):
    def add(compute):
        GAPS[compute.__name__] = (make(compute, **parts), reason)
        return compute

    return add


@gap("a value that is read once in a thousand steps is read once in a thousand tries too")
def reads_a_value_very_rarely(self, step):
    self.count = getattr(self, "count", 0) + 1
    if self.count % 1000 == 0:
        step.log("size", torch.tensor(squares(step).item()))
    return {"pull": squares(step)}


@gap("whether a term should be larger or smaller is known to its author alone")
def has_the_wrong_sign(self, step):
    return {"pull": -squares(step)}


@pytest.mark.parametrize("name", list(FAULTS))
def test_the_fault_is_named(name: str) -> None:
    planted, check, words, contract = FAULTS[name]
    with pytest.raises(Exception, match=re.compile(words, re.DOTALL)):
        getattr(contract(), check)(planted)


@pytest.mark.parametrize("name", list(GAPS))
def test_a_known_gap_is_one(name: str) -> None:
    assert failures(Regular, GAPS[name][0]) == {}


def right(self, step):
    return {"depth": depth_error(step, step.tasks["depth"].to_label_space(step.predictions["depth"][0].float()))}


def right_and_learned(self, step):
    step.log("scale", self.scale)
    self.mean.mul_(0.9).add_(0.1 * squares(step).detach())
    return {"pull": squares(step) * self.scale * (1 + 0 * self.mean)}


def both(self, tasks):
    learns(self, tasks)
    remembers(self, tasks)


@pytest.mark.parametrize("plugin", [make(right), make(right_and_learned, setup=both)])
def test_what_is_right_passes(plugin: Any) -> None:
    assert failures(Regular, plugin) == {}
    assert failures(DepthOnly, make(right)) == {}
