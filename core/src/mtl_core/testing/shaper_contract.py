"""Contract of what shapes the gradient that enters the encoder.

Shape letters: K tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from mtl_core.hooks.relay import Hooks
from mtl_core.step.encoder_gradients import EncoderGradients, Shaped
from mtl_core.step.step import Features
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.contract import (
    NothingKept,
    PluginContract,
    Untouched,
    attempt,
    on_meta_device,
    repeats,
    resume,
    same,
    under,
)
from mtl_core.testing.factories import make_step
from mtl_core.testing.gradients import (
    ROWS,
    bank,
    encoder_gradients,
    entering,
    pyramid_gradients,
    random_rows,
    to_meta,
    turned_round,
)
from mtl_core.testing.step_contract import epoch_record, seeded

LEARNING_HOOKS = ("combine_losses", "compute_regularizer")
"""Hooks through which a parameter gets a gradient; a shaper's own state never does."""


class GradientShaperContract(PluginContract):
    """``shape_encoder_gradient``: how the K branch gradients enter the encoder."""

    hook = "shape_encoder_gradient"
    elementwise: ClassVar[bool] = False
    """Whether the plugin needs the branches themselves and not only their Gramian."""
    tolerance: ClassVar[float] = 1e-6
    """Relative deviation that counts as equal; a method that solves a problem by iteration may need more."""
    order_matters: ClassVar[bool] = False
    """Whether the order of the tasks has a meaning, such as the first one being primary."""

    def bank(self, dtype: torch.dtype = torch.float64) -> dict[str, EncoderGradients]:
        return bank(self.tasks, dtype)

    def shape(self, hooks: Hooks, gradients: EncoderGradients) -> Shaped:
        """What the plugin decides, asked as core asks it."""
        with torch.no_grad():
            answer = hooks.shape_encoder_gradient(gradients)
        assert answer is not None, "the hook returned None; a place that it fills has no default"
        return answer if isinstance(answer, Shaped) else Shaped(answer)

    def enters(self, plugin: Any, gradients: EncoderGradients) -> Tensor:
        # outside the framework there is no step to draw from, and the global generator may be drawn from
        return under(0, lambda: entering(gradients, self.shape(self.prepare(plugin), gradients).weights))

    def test_answers_with_weights_or_a_gradient_like_z(self, plugin: Any) -> None:
        for name, gradients in self.bank().items():
            weights = self.shape(self.prepare(plugin), gradients).weights
            found = shapes(weights)
            expected = [[(len(self.tasks),)], shapes(gradients.branches[0])]
            assert found in expected, f"{name}: shapes {found}, expected one of {expected}"

    def test_is_finite_for_finite_gradients(self, plugin: Any) -> None:
        for dtype in (torch.float32, torch.float64):
            for name, gradients in self.bank(dtype).items():
                assert self.enters(plugin, gradients).isfinite().all(), f"{name}, {dtype}"

    def test_nan_stays_nan(self, plugin: Any) -> None:
        """Core skips a step that is not finite, and fp16's loss scale is lowered by it: it must not be hidden."""
        for row in range(len(self.tasks)):
            b = random_rows(len(self.tasks))
            # one entry only, as an overflow in one pixel: a product with a weight of 0 stays NaN, a selection hides it
            b[row, 0] = float("nan")
            found = self.enters(plugin, encoder_gradients(b, self.tasks, step=make_step(self.tasks)))
            assert found.isnan().any(), f"NaN in the gradient of {self.tasks[row].name} disappeared"

    def test_a_branch_that_nothing_reached_stops_nobody(self, plugin: Any) -> None:
        for name in ("last row zero", "first row zero", "labelled and not reached"):
            assert self.enters(plugin, self.bank()[name]).any(), f"{name}: nothing enters the encoder"

    def test_a_branch_alone_keeps_its_direction(self, plugin: Any) -> None:
        b = random_rows(len(self.tasks))
        tasks = self.tasks
        entered = []
        for k in range(len(tasks)):
            alone = encoder_gradients(b * (torch.arange(len(b)) == k)[:, None], tasks, step=make_step(tasks))
            found = self.enters(plugin, alone)
            # a method may shut single tasks out, such as all but a primary one, but not every task
            entered.append(bool(found.any()))
            assert not entered[-1] or self.parallel(found, b[k]), f"{tasks[k].name} alone enters in another direction"
        assert any(entered), "no task alone enters the encoder"

    def test_scale_invariance(self, plugin: Any) -> None:
        """Ten orders of magnitude change the length of what enters, not its direction."""
        for name in ("random", "conflicting", "last row zero", "uneven"):
            # float64: squares of 1e-10 and 1e10 are in the Gramian, and an ε in the plugin shows, not rounding
            b = ROWS[name](random_rows(len(self.tasks)))
            found = [self.enters(plugin, encoder_gradients(b * s, self.tasks)) for s in (1.0, 1e-10, 1e10)]
            for other in found[1:]:
                assert self.parallel(found[0], other), f"{name}: another scale enters in another direction"

    def parallel(self, a: Tensor, b: Tensor) -> bool:
        return bool(cosine_similarity(unit(a), unit(b), dim=0) > 1 - self.tolerance)

    def test_the_gramian_is_enough(self, plugin: Any) -> None:
        """On several ranks only the Gramian is global; a rank's own branches would differ."""
        if self.elementwise:
            return
        for name, gradients in self.bank().items():
            alone = attrs.evolve(gradients, branches=())
            without, beside = (under(0, partial(self.shape, self.prepare(plugin), g)) for g in (alone, gradients))
            assert equal(without.weights, beside.weights), f"{name}: this rank's branches change the answer"

    def test_is_the_same_on_every_rank(self, plugin: Any) -> None:
        """Neither the global generator nor ``step.generator`` is the same on all ranks."""
        b = random_rows(len(self.tasks))
        # the rank seeds step.generator, and k the global one: whatever draws from either differs
        ranks = [encoder_gradients(b, self.tasks, step=make_step(self.tasks, rank=rank)) for rank in (0, 1)]
        one, other = (under(k, partial(self.shape, self.prepare(plugin), g)).weights for k, g in enumerate(ranks))
        assert equal(one, other), "ranks 0 and 1 shape the same gradients differently"

    def test_state_is_proposed_and_not_written(self, plugin: Any) -> None:
        """Core keeps it only if the step is taken; one bad batch must not spoil it."""
        hooks = self.prepare(plugin)
        gradients = self.bank()["random"]
        tensors = state(hooks)
        kept = Untouched(tensors)
        first = self.shape(hooks, gradients)
        second = self.shape(hooks, gradients)
        kept.check()
        assert equal(first.weights, second.weights), (
            "a second call gives another answer: something was remembered, or drawn from a global generator"
        )
        for name, value in first.state.items():
            assert name in tensors, f"state {name!r} is no buffer of the plugin (its own: {list(tensors)})"
            assert value.shape == tensors[name].shape, f"state {name!r}: {value.shape}, buffer {tensors[name].shape}"

    def test_state_is_made_of_buffers(self, plugin: Any) -> None:
        """No gradient reaches a shaper: a parameter of it would never move, and DDP would wait for it."""
        hooks = self.prepare(plugin)
        copy = hooks.plugins["plugin"]
        parameters = dict(copy.named_parameters()) if isinstance(copy, nn.Module) else {}
        learns = any(hasattr(type(copy), hook) for hook in LEARNING_HOOKS)
        assert learns or not parameters, f"parameters {list(parameters)}; make them buffers"
        proposed = [name for name in self.shape(hooks, self.bank()["random"]).state if name in parameters]
        assert not proposed, f"proposed state {proposed} is made of parameters; make them buffers"

    def test_goes_on_where_a_checkpoint_stopped(self, plugin: Any) -> None:
        """Whatever is remembered lies in buffers: a fresh copy with a saved state takes the same next steps."""
        going = self.prepare(plugin)
        last = repeats(going.plugins["plugin"])
        for seed in range(1, last):
            self.take_step(going, seed)
            # an epoch ends in between: what `after_epoch` computes must be saved too
            if seed == 2:
                going.after_epoch(0, epoch_record(self.tasks, {}))
        resumed = self.prepare(plugin)
        resume(going, resumed)
        for seed in range(last, last + 3):
            one, other = (self.take_step(hooks, seed) for hooks in (going, resumed))
            assert equal(one, other), (
                "state outside buffers: another answer after saving and loading; register_buffer what is remembered, in"
                " setup, and propose its new value"
            )

    def take_step(self, hooks: Hooks, seed: int) -> Features:
        """The answer of one step that is taken: the proposed state is kept."""
        rows = random_rows(len(self.tasks), seed=seed)
        step = make_step(self.tasks, seed=seed)
        answer = self.shape(hooks, encoder_gradients(rows, self.tasks, step=step))
        own = state(hooks)
        with torch.no_grad():
            for name, value in answer.state.items():
                own[name].copy_(value)
        return answer.weights

    def test_keeps_no_graph(self, plugin: Any) -> None:
        hooks = self.prepare(plugin)
        gradients = self.gradients_of_a_step()
        answer = self.shape(hooks, gradients)
        growing = [name for name, value in named_levels(answer).items() if value.requires_grad]
        assert not growing, f"keeps the graph alive: {growing} of the answer have a gradient; compute without one"
        kept = NothingKept({"the gradients": gradients, "the step": gradients.step, "gramian": gradients.gramian})
        del gradients, answer
        kept.check(*hooks.plugins.values())

    def gradients_of_a_step(self) -> EncoderGradients:
        return encoder_gradients(random_rows(len(self.tasks)), self.tasks, step=make_step(self.tasks))

    def test_leaves_the_backward_pass_to_core(self, plugin: Any) -> None:
        gradients = self.gradients_of_a_step()
        self.shape(self.prepare(plugin), gradients)
        assert gradients.step is not None
        called = [name for name, p in gradients.step.predictions.items() if p.grad is not None]
        assert not called, f"calls backward(): the predictions {called} have a gradient; core is in its backward pass"

    def test_works_for_any_number_of_tasks(self, plugin: Any) -> None:
        for tasks in self.other_tasks():
            what = f"K = {len(tasks)} ({', '.join(tasks.names)})"
            entered = attempt(what, partial(self.entered_of_all, plugin, tasks))
            for name, found in (entered or {}).items():
                assert found.isfinite().all(), f"{what}, {name}: not finite"

    def entered_of_all(self, plugin: Any, tasks: Tasks) -> dict[str, Tensor]:
        hooks = self.prepare(plugin, tasks)
        return {name: entering(g, self.shape(hooks, g).weights) for name, g in bank(tasks).items()}

    def test_order_of_tasks_does_not_matter(self, plugin: Any) -> None:
        """What is meant for one task is found by its name, not by its place."""
        gradients = self.gradients_of_a_step()
        # a method that draws, such as a random order of projections, draws for another order of tasks here
        if self.order_matters or self.draws(plugin, gradients):
            return
        other = turned_round(gradients)
        found = attempt(
            "tasks in reverse order",
            lambda: entering(other, self.shape(self.prepare(plugin, other.tasks), other).weights),
        )
        before = self.enters(plugin, gradients)
        # loose: iterative solvers stop at another point for another order
        assert found is None or torch.allclose(before, found, rtol=1e-2, atol=1e-2 * float(before.abs().max())), (
            "another gradient enters when the tasks were given in reverse order: look tasks up by name"
        )

    def draws(self, plugin: Any, gradients: EncoderGradients) -> bool:
        """Whether the answer depends on the step's shared generator."""
        assert gradients.step is not None
        answers = []
        for seed in (7, 8):
            step = attrs.evolve(gradients.step, shared=seeded(seed))
            answers.append(self.enters(plugin, attrs.evolve(gradients, step=step)))
        return not same(*answers)

    def test_takes_a_pyramid(self, plugin: Any) -> None:
        """z may have levels, and a head may use some of them: the others are None in its branch."""
        rows = random_rows(len(self.tasks))
        tasks = self.tasks
        gradients = pyramid_gradients(rows, tasks, make_step(tasks))
        what = "z as a pyramid of which the first task uses one level"
        answer = attempt(what, lambda: self.shape(self.prepare(plugin), gradients))
        if answer is not None and not (isinstance(answer.weights, Tensor) and answer.weights.ndim == 1):
            assert isinstance(answer.weights, tuple), f"{what}: expected a tuple of a gradient per level"
            assert len(answer.weights) == 2, f"{what}: {len(answer.weights)} levels, expected 2"

    def test_leaves_the_gradients_as_they_were(self, plugin: Any) -> None:
        for gradients in self.bank().values():
            levels = {f"branches[{k}]": level for k, (level,) in enumerate(gradients.branches) if level is not None}
            fields = ("gramian", "active", "losses", "means", "decoder_weights")
            step = {} if gradients.step is None else {"step": gradients.step, "targets": gradients.step.targets}
            tensors = {**levels, **{name: getattr(gradients, name) for name in fields}}
            kept = Untouched(tensors, gradients=gradients, **step)
            self.shape(self.prepare(plugin), gradients)
            kept.check()

    def test_runs_on_the_meta_device(self, plugin: Any) -> None:
        """A host sync, a shape that depends on data, or a tensor left on another device raises there."""
        gradients = to_meta(encoder_gradients(random_rows(len(self.tasks), torch.float32), self.tasks))
        hooks = self.on_meta(plugin)
        for _ in range(repeats(hooks.plugins["plugin"])):
            found = on_meta_device(lambda: self.shape(hooks, gradients))
            devices = {str(t.device) for t in [*levels(found.weights), *found.state.values()]}
            assert devices == {"meta"}, f"answer on {devices}"


def named_levels(answer: Shaped) -> dict[str, Tensor]:
    return {**{f"weights[{k}]": level for k, level in enumerate(levels(answer.weights))}, **answer.state}


def levels(features: Features) -> list[Tensor]:
    parts = (features,) if isinstance(features, Tensor) else features
    return [part for part in parts if part is not None]


def shapes(features: Any) -> list[tuple[int, ...]]:
    return [tuple(level.shape) for level in levels(features)]


def equal(a: Features, b: Features) -> bool:
    return all(same(x, y) for x, y in zip(levels(a), levels(b), strict=True))


def unit(a: Tensor) -> Tensor:
    return a / a.abs().max().clamp(min=torch.finfo(a.dtype).tiny)


def state(hooks: Hooks) -> Mapping[str, Tensor]:
    """Everything that the plugin remembers, by the name under which it may be proposed."""
    plugin = hooks.plugins["plugin"]
    if not isinstance(plugin, nn.Module):
        return {}
    return {**dict(plugin.named_parameters()), **dict(plugin.named_buffers())}
