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
from mtl_core.testing.contract import PluginContract, Untouched, same, under
from mtl_core.testing.factories import make_step
from mtl_core.testing.gradients import ROWS, bank, encoder_gradients, entering, random_rows, to_meta

LEARNING_HOOKS = ("combine_losses", "compute_regularizer")
"""Hooks through which a parameter gets a gradient; a shaper's own state never does."""


class GradientShaperContract(PluginContract):
    """``shape_encoder_gradient``: how the K branch gradients enter the encoder."""

    hook = "shape_encoder_gradient"
    elementwise: ClassVar[bool] = False
    """Whether the plugin needs the branches themselves and not only their Gramian."""
    tolerance: ClassVar[float] = 1e-6
    """Relative deviation that counts as equal; a method that solves a problem by iteration may need more."""

    def bank(self, dtype: torch.dtype = torch.float64) -> dict[str, EncoderGradients]:
        return bank(self.tasks, dtype)

    def shape(self, hooks: Hooks, gradients: EncoderGradients) -> Shaped:
        """What the plugin decides, asked as core asks it."""
        with torch.no_grad():
            answer = hooks.shape_encoder_gradient(gradients)
        assert answer is not None, "the hook returned None; a place that it fills has no default"
        return answer if isinstance(answer, Shaped) else Shaped(answer)

    def enters(self, plugin: Any, gradients: EncoderGradients) -> Tensor:
        return entering(gradients, self.shape(self.prepare(plugin), gradients).weights)

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
            entered.append(bool(found.any()))
            assert not entered[-1] or self.parallel(found, b[k]), f"{tasks[k].name} alone enters in another direction"
        assert any(entered), "no task alone enters the encoder"

    def test_scale_invariance(self, plugin: Any) -> None:
        """Ten orders of magnitude change the length of what enters, not its direction."""
        for name in ("random", "conflicting", "last row zero", "uneven"):
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
            without = self.shape(self.prepare(plugin), attrs.evolve(gradients, branches=())).weights
            assert equal(without, self.shape(self.prepare(plugin), gradients).weights), name

    def test_is_the_same_on_every_rank(self, plugin: Any) -> None:
        """Neither the global generator nor ``step.generator`` is the same on all ranks."""
        b = random_rows(len(self.tasks))
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
        assert equal(first.weights, second.weights), "a second call gives another answer: something was remembered"
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

    def test_leaves_the_gradients_as_they_were(self, plugin: Any) -> None:
        for gradients in self.bank().values():
            levels = {f"branches[{k}]": level for k, (level,) in enumerate(gradients.branches) if level is not None}
            fields = ("gramian", "active", "losses", "means", "decoder_weights")
            kept = Untouched({**levels, **{name: getattr(gradients, name) for name in fields}})
            self.shape(self.prepare(plugin), gradients)
            kept.check()

    def test_runs_on_the_meta_device(self, plugin: Any) -> None:
        """A host sync, a shape that depends on data, or a tensor left on another device raises there."""
        gradients = to_meta(encoder_gradients(random_rows(len(self.tasks), torch.float32), self.tasks))
        found = self.shape(self.on_meta(plugin), gradients)
        devices = {str(t.device) for t in [*levels(found.weights), *found.state.values()]}
        assert devices == {"meta"}, f"answer on {devices}"


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
