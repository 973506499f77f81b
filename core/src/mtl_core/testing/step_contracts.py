"""Contracts of what acts on a training step: loss rules and regularizers.

Shape letters: K tasks.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn

from mtl_core.hooks import Hooks
from mtl_core.losses import global_term
from mtl_core.step import Step
from mtl_core.testing.contract import PluginContract, Untouched, same, under
from mtl_core.testing.factories import judged, make_batch, make_step, masks, other_invalid_values, to_meta

SAMPLES = 4


class StepContract(PluginContract):
    """What loss rules and regularizers have in common: both look at a :class:`mtl_core.step.Step`."""

    def make_step(self, plugin: Any, mask: str = "full", seed: int = 0, rank: int = 0) -> Step:
        """A step with as many views as the plugin asks for, and one of the label masks of ``masks()``."""
        tasks = self.tasks
        labelled = masks(SAMPLES, len(tasks))[mask]
        batch = make_batch(tasks, labelled, size=self.image_size, seed=seed)
        return make_step(tasks, batch, getattr(plugin, "views", 1), seed, rank)

    def terms(self, hooks: Hooks, step: Step) -> dict[str, Tensor]:
        """What the hook adds to the loss, by name."""
        raise NotImplementedError

    def total(self, hooks: Hooks, step: Step) -> Tensor:
        return torch.stack([torch.zeros(()), *self.terms(hooks, step).values()]).sum()

    def test_leaves_the_step_as_it_was(self, plugin: Any) -> None:
        step = self.make_step(plugin, "one label")
        fields = attrs.asdict(step, recurse=False, filter=lambda field, value: isinstance(value, Tensor))
        kept = Untouched({**fields, **prefixed("predictions", step.predictions), **prefixed("targets", step.targets)})
        self.terms(self.prepare(plugin), step)
        kept.check()

    def test_is_finite_whatever_is_labelled(self, plugin: Any) -> None:
        hooks = self.prepare(plugin)
        for mask in masks(SAMPLES, len(self.tasks)):
            step = self.make_step(plugin, mask)
            total = self.total(hooks, step)
            assert total.isfinite(), f"labels {mask!r}: {total}"
            for name, gradient in gradients(hooks, step, total).items():
                assert gradient is None or gradient.isfinite().all(), f"labels {mask!r}: gradient of {name}"

    def test_same_step_same_value(self, plugin: Any) -> None:
        """Nothing is drawn from the global generator, and a second call does not see the first."""
        values = [under(s, lambda: self.total(self.prepare(plugin), self.make_step(plugin))) for s in (1, 2)]
        assert same(values[0].detach(), values[1].detach()), f"two runs of one step differ: {values}"

    def test_runs_on_the_meta_device(self, plugin: Any) -> None:
        """A host sync, a shape that depends on data, or a tensor left on another device raises there."""
        for mask in ("full", "one label"):
            step = to_meta(self.make_step(plugin, mask))
            total = torch.stack([torch.zeros((), device="meta"), *self.terms(self.on_meta(plugin), step).values()])
            if total.requires_grad:
                total.sum().backward()

    def test_learns_what_setup_made_and_saves_it(self, plugin: Any) -> None:
        hooks = self.prepare(plugin)
        copy, before = hooks.plugins["plugin"], names(hooks.plugins["plugin"])
        self.terms(hooks, self.make_step(plugin))
        assert names(copy) == before, "parameters or buffers were made in a step; make them in setup"
        if before:
            fresh = self.prepare(plugin).plugins["plugin"]
            fresh.load_state_dict(through_a_file(copy.state_dict()))

    def test_logs_scalars(self, plugin: Any) -> None:
        step = self.make_step(plugin)
        self.terms(self.prepare(plugin), step)
        wrong = {name: tuple(value.shape) for name, value in step.logged.items() if value.ndim}
        assert not wrong, f"logged values that are no scalars: {wrong}"


class LossRuleContract(StepContract):
    """``combine_losses``: one scalar of the tasks' losses, the same on every rank."""

    hook = "combine_losses"

    def terms(self, hooks: Hooks, step: Step) -> dict[str, Tensor]:
        return {"total": hooks.combine_losses(step.task_losses, step.task_means, step.active, step)}

    def decoder_weights(self, hooks: Hooks, step: Step) -> Tensor:
        total = self.total(hooks, step)
        assert total.requires_grad, "the total does not depend on the losses"
        found = torch.autograd.grad(total, step.task_losses, allow_unused=True)[0]
        assert found is not None, "the total does not depend on the argument `losses`"
        return found

    def test_is_a_scalar(self, plugin: Any) -> None:
        (total,) = self.terms(self.prepare(plugin), self.make_step(plugin)).values()
        assert total.shape == (), f"found shape {tuple(total.shape)}"
        assert total.is_floating_point(), f"found {total.dtype}"

    def test_no_task_is_trained_against_its_loss(self, plugin: Any) -> None:
        for mask in ("full", "one label", "absent", "alone"):
            step = self.make_step(plugin, mask)
            weights = self.decoder_weights(self.prepare(plugin), step)
            assert (weights >= 0).all(), f"labels {mask!r}: ∂total/∂L = {weights.tolist()}"
            assert (weights[step.active] > 0).any(), f"labels {mask!r}: no active task is trained"

    def test_an_absent_task_learns_nothing(self, plugin: Any) -> None:
        """Its entry of every (K,) parameter has no gradient: 0 is no loss, it is no label."""
        hooks, step = self.prepare(plugin), self.make_step(plugin, "absent")
        self.total(hooks, step).backward()
        for name, parameter in parameters(hooks).items():
            if parameter.shape == (len(self.tasks),) and parameter.grad is not None:
                assert not parameter.grad[0].any(), f"{name} of a task without labels has gradient {parameter.grad[0]}"

    def test_is_finite_for_losses_of_any_size(self, plugin: Any) -> None:
        for scale in (0.0, 1e-10, 1e10):
            step = scaled(self.make_step(plugin), scale)
            hooks = self.prepare(plugin)
            total = self.total(hooks, step)
            assert total.isfinite(), f"losses times {scale}: total {total}"
            for name, gradient in gradients(hooks, step, total).items():
                assert gradient is None or gradient.isfinite().all(), f"losses times {scale}: gradient of {name}"

    def test_nan_stays_nan(self, plugin: Any) -> None:
        total = self.total(self.prepare(plugin), scaled(self.make_step(plugin), float("nan")))
        assert total.isnan(), f"a NaN loss became {total}; core must see it to skip the step"

    def test_is_the_same_on_every_rank(self, plugin: Any) -> None:
        """Draws must not come from ``step.generator``, which every rank seeds differently."""
        totals = [self.total(self.prepare(plugin), self.make_step(plugin, rank=rank)).detach() for rank in (0, 1)]
        assert same(*totals), f"ranks 0 and 1 combine the same losses to {totals}"

    def test_works_for_one_task_that_has_a_label(self, plugin: Any) -> None:
        weights = self.decoder_weights(self.prepare(plugin), self.make_step(plugin, "alone"))
        assert weights[0] > 0, f"the only labelled task has weight {weights[0]}"


class RegularizerContract(StepContract):
    """``compute_regularizer``: named losses on predictions and labels."""

    hook = "compute_regularizer"
    adds_nothing: ClassVar[bool] = False
    """Whether the plugin returns None in the tested experiment."""

    def raw(self, hooks: Hooks, step: Step) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
        found = hooks.compute_regularizer(step)
        return {name.removeprefix("plugin/"): term for name, term in found.items() if name.startswith("plugin/")}

    def terms(self, hooks: Hooks, step: Step) -> dict[str, Tensor]:
        return {name: global_term(term) for name, term in self.raw(hooks, step).items()}

    def test_terms_are_scalars_or_sums_with_counts(self, plugin: Any) -> None:
        for name, term in self.raw(self.prepare(plugin), self.make_step(plugin)).items():
            parts = (term,) if isinstance(term, Tensor) else term
            shapes = [tuple(part.shape) for part in parts]
            assert shapes in ([()], [(), ()]), f"{name}: shapes {shapes}, expected a scalar or (sum, count)"
            assert parts[0].is_floating_point(), f"{name}: {parts[0].dtype}"

    def test_has_the_same_terms_whatever_is_labelled(self, plugin: Any) -> None:
        hooks = self.prepare(plugin)
        found = {mask: set(self.raw(hooks, self.make_step(plugin, mask))) for mask in masks(SAMPLES, len(self.tasks))}
        assert all(terms == found["full"] for terms in found.values()), f"terms by labels: {found}; return a zero"
        assert bool(found["full"]) is not self.adds_nothing, f"adds_nothing = {self.adds_nothing}, terms {found}"

    def test_builds_the_same_graph_whatever_is_labelled(self, plugin: Any) -> None:
        """On several ranks a parameter that only some of them reach makes the others wait for ever."""
        reached: dict[str, set[str]] = {}
        for mask in masks(SAMPLES, len(self.tasks)):
            hooks, step = self.prepare(plugin), self.make_step(plugin, mask)
            for name, term in self.terms(hooks, step).items():
                assert term.requires_grad, f"labels {mask!r}: {name} does not depend on its inputs"
            found = gradients(hooks, step, self.total(hooks, step))
            reached[mask] = {name for name, g in found.items() if g is not None and name.startswith("plugin.")}
        for mask, parts in reached.items():
            assert parts == reached["full"], f"labels {mask!r}: only {parts} are reached, not {reached['full']}"

    def test_every_parameter_is_trained(self, plugin: Any) -> None:
        hooks, step = self.prepare(plugin), self.make_step(plugin, "one label")
        total = self.total(hooks, step)
        if "combine_losses" in hooks.places:
            total = total + hooks.combine_losses(step.task_losses, step.task_means, step.active, step)
        idle = [n for n, g in gradients(hooks, step, total).items() if g is None and n.startswith("plugin.")]
        assert not idle, f"parameters without gradient: {idle}"

    def test_what_an_invalid_pixel_holds_does_not_matter(self, plugin: Any) -> None:
        """A withheld label is invalid everywhere: who reads it as a label would learn from its blank."""
        hooks = self.prepare(plugin)
        step = self.make_step(plugin, "one label")
        targets = {task.name: other_invalid_values(task, step.targets[task.name]) for task in step.tasks}
        totals = [self.total(self.prepare(plugin), s) for s in (step, judged(attrs.evolve(step, targets=targets)))]
        assert torch.allclose(*totals, rtol=1e-6), f"{totals[0]} became {totals[1]} when invalid pixels changed"
        for name, gradient in gradients(hooks, step, totals[1]).items():
            assert gradient is None or gradient.isfinite().all(), f"gradient of {name}"


def prefixed(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{key}": tensor for key, tensor in tensors.items()}


def parameters(hooks: Hooks) -> dict[str, Tensor]:
    plugin = hooks.plugins["plugin"]
    return dict(plugin.named_parameters(prefix="plugin")) if isinstance(plugin, nn.Module) else {}


def names(plugin: Any) -> list[str]:
    return list(plugin.state_dict()) if isinstance(plugin, nn.Module) else []


def gradients(hooks: Hooks, step: Step, total: Tensor) -> dict[str, Tensor | None]:
    """Gradients at the predictions and at the plugin's parameters; None where the total does not depend on them."""
    sources = {**prefixed("predictions", step.predictions), **parameters(hooks)}
    if not total.requires_grad:
        return dict.fromkeys(sources)
    found = torch.autograd.grad(total, list(sources.values()), retain_graph=True, allow_unused=True)
    return dict(zip(sources, found, strict=True))


def scaled(step: Step, scale: float) -> Step:
    return attrs.evolve(step, task_losses=step.task_losses * scale, task_means=step.task_means * scale)


def through_a_file(state: dict[str, Any]) -> Any:
    """A state as a checkpoint gives it back: tensors and plain types only."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
