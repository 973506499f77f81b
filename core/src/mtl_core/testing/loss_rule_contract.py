"""Contract of what combines the tasks' losses.

Shape letters: K tasks.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor

from mtl_core.hooks.relay import Hooks
from mtl_core.step.step import Step
from mtl_core.testing.contract import same, under
from mtl_core.testing.step_contract import StepContract, gradients, parameters, prefixed


class LossRuleContract(StepContract):
    """``combine_losses``: one scalar of the tasks' losses, the same on every rank."""

    hook = "combine_losses"
    has_own_losses: ClassVar[bool] = False
    """Whether the rule adds losses on predictions to those of the tasks."""

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

    def test_reaches_the_network_through_the_losses_alone(self, plugin: Any) -> None:
        """Means and the step are for looking: a gradient through them trains heads against what was combined."""
        if self.has_own_losses:
            return
        step = self.make_step(plugin)
        losses, means = (value.detach().requires_grad_() for value in (step.task_losses, step.task_means))
        total = self.prepare(plugin).combine_losses(losses, means, step.active, step)
        beside = {"means": means, **prefixed("predictions", step.predictions)}
        assert total.requires_grad, "the total does not depend on the losses"
        found = torch.autograd.grad(total, list(beside.values()), allow_unused=True)
        reached = [name for name, g in zip(beside, found, strict=True) if g is not None and g.any()]
        assert not reached, (
            f"a gradient goes through {reached} and not through `losses`; detach what weights are made of"
        )

    def test_what_an_absent_task_holds_does_not_matter(self, plugin: Any) -> None:
        step = self.make_step(plugin, "absent")
        # where no sample has the label, its mean is a placeholder: 0 by core's choice, not a measured loss
        means = torch.where(step.active, step.task_means, step.task_means + 5)
        one, other = (
            under(0, partial(self.prepare(plugin).combine_losses, step.task_losses, m, step.active, step)).detach()
            for m, step in ((step.task_means, step), (means, self.make_step(plugin, "absent")))
        )
        assert torch.allclose(one, other, rtol=1e-5), (
            f"{one} became {other} when the mean of a task without labels changed: leave out tasks that are not active"
        )

    def test_an_absent_task_learns_nothing(self, plugin: Any) -> None:
        """Its entry of every (K,) parameter has no gradient: 0 is no loss, it is no label."""
        hooks = self.prepare(plugin)
        step = self.make_step(plugin, "absent")
        torch.autograd.backward(self.total(hooks, step))
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
        """Draws come from ``step.shared`` and not from ``step.generator``, which every rank seeds differently."""
        totals = [self.total(self.prepare(plugin), self.make_step(plugin, rank=rank)).detach() for rank in (0, 1)]
        assert same(*totals), f"ranks 0 and 1 combine the same losses to {totals}"

    def test_works_for_one_task_that_has_a_label(self, plugin: Any) -> None:
        weights = self.decoder_weights(self.prepare(plugin), self.make_step(plugin, "alone"))
        assert weights[0] > 0, f"the only labelled task has weight {weights[0]}"


def scaled(step: Step, scale: float) -> Step:
    return attrs.evolve(step, task_losses=step.task_losses * scale, task_means=step.task_means * scale)
