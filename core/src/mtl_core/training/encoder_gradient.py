"""What happens at the seam during one step.

Shape letters: K tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mtl_core.errors import ContractError, MtlError
from mtl_core.hooks.relay import Hooks
from mtl_core.step.encoder_gradients import Branch, EncoderGradients, Shaped
from mtl_core.step.step import Features, Step
from mtl_core.tasks.tasks import Tasks
from mtl_core.training.gramian import gramian, parameter_gramian

Level = Literal["features", "parameters"]
"""Which gradients a shaper compares: at the features, or of the encoder's parameters."""


class Arrival:
    """What happens at the seam: hooks are asked, their state waits until the optimizer step is known to be taken."""

    def __init__(
        self, hooks: Hooks, tasks: Tasks, encoder: nn.Module, level: Level, group: dist.ProcessGroup | None
    ) -> None:
        self.hooks, self.tasks, self.group, self.level = hooks, tasks, group, level
        self.encoder = [p for p in encoder.parameters() if p.requires_grad]
        self.z: Features | None = None
        self.step: Step | None = None
        self.logged: dict[str, Tensor] = {}
        self.proposed: dict[str, Mapping[str, Tensor]] = {}
        self.finite: Tensor = torch.ones((), dtype=torch.bool)

    def expect(self, step: Step, total: Tensor) -> None:
        """Note the step whose gradients will arrive, and ∂total/∂L_t."""
        weights = torch.autograd.grad(total, step.task_losses, retain_graph=True, allow_unused=True)[0]
        self.step = step
        self.weights = torch.zeros_like(step.task_losses) if weights is None else weights

    def shape(self, branches: tuple[Branch, ...], scale: Tensor) -> Features:
        assert self.step is not None
        step = self.step
        gradients = EncoderGradients(
            tasks=self.tasks,
            gramian=self.gramian(branches, scale),
            active=step.active,
            losses=step.task_losses.detach(),
            means=step.task_means.detach(),
            decoder_weights=self.weights,
            branches=branches,
            step=step,
        )
        shaped = self.ask(gradients)
        self.finite = gradients.gramian.isfinite().all()
        self.logged = self.describe(gradients, shaped) | step.logged
        self.step = self.z = None
        if self.level == "parameters" and not has_shape(shaped.weights, gradients.losses):
            raise MtlError(
                f'plugin "{self.hooks.places["shape_encoder_gradient"]}" works on the gradients at the features,'
                ' element by element; use level = "features"'
            )
        return shaped.weights

    @torch.no_grad()
    def ask(self, gradients: EncoderGradients) -> Shaped:
        """What the shaper answers (without one: weights of 1), and what each plugin wants to remember."""
        self.proposed = self.hooks.watch_encoder_gradient(gradients)
        place = self.hooks.places.get("shape_encoder_gradient")
        if place is None:
            return Shaped(torch.ones_like(gradients.norms))
        answer = self.hooks.shape_encoder_gradient(gradients)
        if answer is None:
            raise ContractError(f'plugin "{place}": shape_encoder_gradient returned None; it must return weights')
        shaped = answer if isinstance(answer, Shaped) else Shaped(answer)
        self.proposed[place] = {**self.proposed.get(place, {}), **shaped.state}
        return shaped

    def gramian(self, branches: tuple[Branch, ...], scale: Tensor) -> Tensor:
        if self.level == "features":
            return gramian(branches, scale, self.group)
        assert self.z is not None
        return parameter_gramian(branches, self.z, self.encoder, scale, self.group)

    def describe(self, gradients: EncoderGradients, shaped: Shaped) -> dict[str, Tensor]:
        """Norms, cosines and weights, for the epoch's log; NaN, which it leaves out, where nothing reached a branch."""
        absent = ~gradients.reached
        names, norms = self.tasks.names, gradients.norms.masked_fill(absent, torch.nan)
        cosines = gradients.gramian / (norms[:, None] * norms)
        found = {f"encoder/norm/{t}": n for t, n in zip(names, norms, strict=True)}
        for i, (a, row) in enumerate(zip(names, cosines.unbind(), strict=True)):
            found |= {f"encoder/cosine/{a}|{b}": cosine for b, cosine in zip(names[:i], row.unbind(), strict=False)}
        if isinstance(shaped.weights, Tensor) and has_shape(shaped.weights, norms):
            weights = shaped.weights.masked_fill(absent, torch.nan)
            found |= {f"encoder/weight/{t}": w for t, w in zip(names, weights, strict=True)}
        return found

    def keep(self) -> None:
        """Keep the proposed state if the Gramian was finite (the guard takes it back if the step is skipped)."""
        for name, state in self.proposed.items():
            buffers = dict(self.hooks.plugins[name].named_buffers()) if state else {}
            for buffer, value in state.items():
                buffers[buffer].copy_(torch.where(self.finite, value, buffers[buffer]))
        self.proposed = {}


def has_shape(answer: Features, like: Tensor) -> bool:
    return isinstance(answer, Tensor) and answer.shape == like.shape
