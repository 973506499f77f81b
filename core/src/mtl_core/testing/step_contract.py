"""What the contracts of loss rules and regularizers have in common."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from mtl_core.hooks.relay import Hooks
from mtl_core.step.step import Step
from mtl_core.testing.contract import PluginContract, Untouched, count_views, same, under
from mtl_core.testing.factories import make_batch, make_step, masks, to_meta

SAMPLES = 4


class StepContract(PluginContract):
    """What loss rules and regularizers have in common: both look at a :class:`mtl_core.step.Step`."""

    def make_step(self, plugin: Any, mask: str = "full", seed: int = 0, rank: int = 0) -> Step:
        """A step with as many views as the plugin asks for, and one of the label masks of ``masks()``."""
        tasks = self.tasks
        labelled = masks(SAMPLES, len(tasks))[mask]
        batch = make_batch(tasks, labelled, size=self.image_size, seed=seed)
        return make_step(tasks, batch, count_views(plugin), seed, rank)

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
                torch.autograd.backward(total.sum())

    def test_learns_what_setup_made_and_saves_it(self, plugin: Any) -> None:
        hooks = self.prepare(plugin)
        copy = hooks.plugins["plugin"]
        before = names(hooks.plugins["plugin"])
        self.terms(hooks, self.make_step(plugin))
        assert names(copy) == before, "parameters or buffers were made in a step; make them in setup"
        if before:
            fresh = self.prepare(plugin).plugins["plugin"]
            fresh.load_state_dict(through_a_file(copy.state_dict()))

    def test_its_parameter_groups_hold_its_own_parameters(self, plugin: Any) -> None:
        hooks = self.prepare(plugin)
        own = {id(parameter) for parameter in parameters(hooks).values()}
        for group in hooks.parameter_groups(1e-3):
            assert {id(p) for p in group["params"]} <= own, "a group holds parameters that the plugin does not have"

    def test_logs_scalars(self, plugin: Any) -> None:
        step = self.make_step(plugin)
        self.terms(self.prepare(plugin), step)
        wrong = {name: tuple(value.shape) for name, value in step.logged.items() if value.ndim}
        assert not wrong, f"logged values that are no scalars: {wrong}"


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


def through_a_file(state: dict[str, Any]) -> Any:
    """A state as a checkpoint gives it back: tensors and plain types only."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
