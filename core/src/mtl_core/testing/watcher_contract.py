"""Contract of what watches the gradients that enter the encoder.

Shape letters: K tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs
import torch
from torch import Tensor

from mtl_core.hooks.relay import Hooks
from mtl_core.step.encoder_gradients import EncoderGradients
from mtl_core.tasks.tasks import Tasks
from mtl_core.testing.contract import PluginContract, Untouched, attempt, on_meta_device, repeats, resume, same, under
from mtl_core.testing.factories import make_step
from mtl_core.testing.gradients import bank, encoder_gradients, random_rows, to_meta
from mtl_core.testing.shaper_contract import state


class GradientWatcherContract(PluginContract):
    """``watch_encoder_gradient``: what is remembered of the K branch gradients."""

    hook = "watch_encoder_gradient"

    def watch(self, hooks: Hooks, gradients: EncoderGradients) -> Mapping[str, Tensor]:
        """What the plugin proposes, asked as core asks it."""
        with torch.no_grad():
            return hooks.watch_encoder_gradient(gradients)["plugin"]

    def test_proposes_buffers_of_its_own(self, plugin: Any) -> None:
        hooks = self.prepare(plugin)
        own = dict(hooks.plugins["plugin"].named_buffers())
        for name, value in self.watch(hooks, bank(self.tasks)["random"]).items():
            assert name in own, f"state {name!r} is no buffer of the plugin (its own: {list(own)})"
            assert value.shape == own[name].shape, f"state {name!r}: {value.shape}, buffer {own[name].shape}"

    def test_state_is_proposed_and_not_written(self, plugin: Any) -> None:
        """Core keeps it only if the step is taken; one bad batch must not spoil it."""
        hooks = self.prepare(plugin)
        gradients = bank(self.tasks)["random"]
        kept = Untouched(state(hooks))
        first = self.watch(hooks, gradients)
        second = self.watch(hooks, gradients)
        kept.check()
        assert same_states(first, second), "a second call gives another answer: something was remembered"

    def test_is_finite_for_finite_gradients(self, plugin: Any) -> None:
        for dtype in (torch.float32, torch.float64):
            for case, gradients in bank(self.tasks, dtype).items():
                for name, value in self.watch(self.prepare(plugin), gradients).items():
                    assert value.isfinite().all(), f"{case}, {dtype}: state {name!r}"

    def test_the_gramian_is_enough(self, plugin: Any) -> None:
        """On several ranks only the Gramian is global; a rank's own branches would differ."""
        for name, gradients in bank(self.tasks).items():
            without = self.watch(self.prepare(plugin), attrs.evolve(gradients, branches=()))
            assert same_states(without, self.watch(self.prepare(plugin), gradients)), name

    def test_is_the_same_on_every_rank(self, plugin: Any) -> None:
        b = random_rows(len(self.tasks))
        # the rank seeds step.generator, and k the global one: whatever draws from either differs
        ranks = [encoder_gradients(b, self.tasks, step=make_step(self.tasks, rank=rank)) for rank in (0, 1)]
        one, other = (under(k, partial(self.watch, self.prepare(plugin), g)) for k, g in enumerate(ranks))
        assert same_states(one, other), "ranks 0 and 1 remember different things of the same gradients"

    def test_leaves_the_gradients_as_they_were(self, plugin: Any) -> None:
        for gradients in bank(self.tasks).values():
            fields = ("gramian", "active", "losses", "means", "decoder_weights")
            kept = Untouched({name: getattr(gradients, name) for name in fields}, gradients=gradients)
            self.watch(self.prepare(plugin), gradients)
            kept.check()

    def test_goes_on_where_a_checkpoint_stopped(self, plugin: Any) -> None:
        """Whatever is remembered lies in buffers: a fresh copy with a saved state proposes the same next."""
        going = self.prepare(plugin)
        last = repeats(going.plugins["plugin"])
        for seed in range(1, last):
            self.take_step(going, seed)
        resumed = self.prepare(plugin)
        resume(going, resumed)
        for seed in range(last, last + 3):
            one, other = (self.take_step(hooks, seed) for hooks in (going, resumed))
            assert same_states(one, other), "state outside buffers: another proposal after saving and loading"

    def take_step(self, hooks: Hooks, seed: int) -> Mapping[str, Tensor]:
        step = make_step(self.tasks, seed=seed)
        proposed = self.watch(hooks, encoder_gradients(random_rows(len(self.tasks), seed=seed), self.tasks, step=step))
        with torch.no_grad():
            for name, value in proposed.items():
                state(hooks)[name].copy_(value)
        return {name: value.clone() for name, value in proposed.items()}

    def test_works_for_any_number_of_tasks(self, plugin: Any) -> None:
        for tasks in self.other_tasks():
            gradients = encoder_gradients(random_rows(len(tasks)), tasks, step=make_step(tasks))
            what = f"K = {len(tasks)} ({', '.join(tasks.names)})"
            proposed = attempt(what, partial(self.watch_new, plugin, tasks, gradients))
            for name, value in (proposed or {}).items():
                assert value.isfinite().all(), f"{what}: state {name!r} is not finite"

    def watch_new(self, plugin: Any, tasks: Tasks, gradients: EncoderGradients) -> Mapping[str, Tensor]:
        return self.watch(self.prepare(plugin, tasks), gradients)

    def test_runs_on_the_meta_device(self, plugin: Any) -> None:
        """A host sync, a shape that depends on data, or a tensor left on another device raises there."""
        gradients = to_meta(encoder_gradients(random_rows(len(self.tasks), torch.float32), self.tasks))
        hooks = self.on_meta(plugin)
        for _ in range(repeats(hooks.plugins["plugin"])):
            devices = {str(t.device) for t in on_meta_device(lambda: self.watch(hooks, gradients)).values()}
            assert devices <= {"meta"}, f"state on {devices}"


def same_states(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
