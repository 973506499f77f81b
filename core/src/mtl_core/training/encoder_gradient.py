"""The seam between encoder and heads, during one step.

Shape letters: K tasks.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Literal

import attrs
import torch
import torch.distributed as dist
from torch import Tensor, nn

from mtl_core.errors import ContractError, MtlError
from mtl_core.hooks.relay import Hooks
from mtl_core.step.encoder_gradients import Branch, EncoderGradients, Shaped
from mtl_core.step.step import Features, Step
from mtl_core.tasks.precision import constant, is_finite
from mtl_core.tasks.tasks import Tasks
from mtl_core.training.branching import LossScale, branch
from mtl_core.training.gramian import gramian, parameter_gramian

Level = Literal["features", "parameters"]
"""Which gradients a shaper compares: at the features, or of the encoder's parameters."""

STOPPED = "encoder/stopped"
"""Name in the log of the share of steps in which the shaper let nothing into the encoder."""


@attrs.define(eq=False)
class _Crossing:
    """One step's way through the seam.

    :param z: shared features, with the graph that leads back to the encoder
    :param scale: of this step, which distinguishes the step's backward pass from others
    """

    z: Features | None
    scale: LossScale
    step: Step | None = None
    weights: Tensor | None = None

    def release(self) -> None:
        """Let go of the step.

        The graph holds this object, and the step holds the graph: Python's collector does not see a circle that leads
        through autograd, and every step's tensors would stay.
        """
        self.z = None
        self.step = None
        self.weights = None


class Seam:
    """What happens at the seam during one step, in three moments.

    1. :meth:`begin`, in the forward pass: z is handed out once per head. From here on gradients may come back.
    2. :meth:`backward`, called by autograd in the middle of the step's one backward pass, when the gradients of all K
       branches are there and the encoder's own pass has not started: hooks decide how they enter.
    3. :meth:`commit`, when that pass is over: the state that plugins proposed is written into their buffers.

    It waits from 2 to 3, because autograd may run the second on another thread, and because a buffer
    that a graph still needs must not change while the pass is under way.
    """

    def __init__(
        self, hooks: Hooks, tasks: Tasks, encoder: nn.Module, level: Level, group: dist.ProcessGroup | None
    ) -> None:
        self.hooks = hooks
        self.tasks = tasks
        self.group = group
        self.level = level
        self.encoder = [p for p in encoder.parameters() if p.requires_grad]
        self.logged: dict[str, Tensor] = {}
        self._crossing: _Crossing | None = None
        self._proposed: dict[str, Mapping[str, Tensor]] = {}
        self._finite: Tensor = torch.ones((), dtype=torch.bool)

    def begin(self, z: Features, scale: LossScale) -> list[Features]:
        """z, once per head.

        :param scale: the one that the total loss of this step goes through
        """
        if self._crossing is not None:
            self._crossing.release()  # its backward pass never came
        # bound to the function that autograd will call: a gradient of an older step comes with its own crossing
        self._crossing = crossing = _Crossing(z, scale)
        return branch(z, len(self.tasks), functools.partial(self.backward, crossing), scale)

    def expect(self, step: Step, total: Tensor) -> None:
        """Note the step whose gradients will arrive, and ∂total/∂L_t of the combined losses."""
        assert self._crossing is not None
        # before regularizers are added: decoder_weights are what the loss rule gave each task
        # a short graph: it ends at the K losses, and the networks below them are not passed
        found = torch.autograd.grad(total, step.task_losses, retain_graph=True, allow_unused=True)[0]
        self._crossing.step = step
        self._crossing.weights = torch.zeros_like(step.task_losses) if found is None else found

    def backward(self, crossing: _Crossing, branches: tuple[Branch, ...], scale: Tensor) -> Features:
        """Ask the hooks how the branch gradients enter the encoder.

        :return: weights (K,), or a gradient like z
        """
        if not crossing.scale.recorded:
            # not the step's backward pass: a plugin differentiates with respect to z or the encoder, such as a
            # regularizer that penalises a gradient; it gets the plain derivative, and hooks are not called
            return scale.new_ones(len(branches))
        if crossing is not self._crossing or crossing.step is None:
            raise ContractError(
                "a gradient arrived at the features of a step that is over; call backward once per step, and keep no"
                " step's tensors for a later one"
            )
        self._crossing = None
        step = crossing.step
        gradients = self._gradients(crossing, step, branches, scale)
        crossing.release()
        # watchers are called first: they see the gradients before they are shaped
        shaped = self._ask(gradients)
        # stays on the device: an `if` would wait for it in the middle of the backward pass
        self._finite = is_finite(gradients.gramian).all()
        self.logged = self._describe(gradients, shaped) | step.logged
        if self.level == "parameters" and not _has_shape(shaped.weights, gradients.losses):
            raise MtlError(
                f'plugin "{self.hooks.places["shape_encoder_gradient"]}" works on the gradients at the features,'
                ' element by element; use level = "features"'
            )
        return shaped.weights

    def commit(self) -> None:
        """Write what the plugins proposed, if the Gramian was finite.

        Whether the optimizer will take the step is not known yet: if it is skipped, the trainer's
        :class:`mtl_core.training.buffers.BufferGuard` puts these buffers back together with batch norm's.
        """
        for name, state in self._proposed.items():
            buffers = dict(self.hooks.plugins[name].named_buffers()) if state else {}
            for buffer, value in state.items():
                # where, not a product with 0: a NaN in the proposed value would stay
                buffers[buffer].copy_(torch.where(self._finite, value, buffers[buffer]))
        self._proposed = {}

    def _gradients(
        self, crossing: _Crossing, step: Step, branches: tuple[Branch, ...], scale: Tensor
    ) -> EncoderGradients:
        assert crossing.weights is not None
        assert crossing.z is not None
        return EncoderGradients(
            tasks=self.tasks,
            gramian=self._gramian(crossing.z, branches, scale),
            active=step.active,
            losses=step.task_losses.detach(),
            means=step.task_means.detach(),
            decoder_weights=crossing.weights,
            branches=branches,
            step=step,
        )

    def _gramian(self, z: Features, branches: tuple[Branch, ...], scale: Tensor) -> Tensor:
        if self.level == "features":
            return gramian(branches, scale, self.group)
        return parameter_gramian(branches, z, self.encoder, scale, self.group)

    @torch.no_grad()
    def _ask(self, gradients: EncoderGradients) -> Shaped:
        """The shaper's answer (without one: weights of 1); keeps the state that each plugin proposes."""
        self._proposed = self.hooks.watch_encoder_gradient(gradients)
        place = self.hooks.places.get("shape_encoder_gradient")
        if place is None:
            return Shaped(torch.ones_like(gradients.norms))
        answer = self.hooks.shape_encoder_gradient(gradients)
        if answer is None:
            raise ContractError(f'plugin "{place}": shape_encoder_gradient returned None; it must return weights')
        shaped = answer if isinstance(answer, Shaped) else Shaped(answer)
        # a shaper may also be a watcher: both states are of its buffers
        self._proposed[place] = {**self._proposed.get(place, {}), **shaped.state}
        return shaped

    def _describe(self, gradients: EncoderGradients, shaped: Shaped) -> dict[str, Tensor]:
        """Norms, cosines and weights, for the epoch's log; NaN, which it leaves out, where nothing reached a branch."""
        reached = gradients.reached
        nothing = constant(torch.nan, reached.device)
        names = self.tasks.names
        norms = torch.where(reached, gradients.norms, nothing)
        # NaN where either branch is absent, and 0/0 where a gradient is exactly 0: both are left out of the mean
        cosines = gradients.gramian / (norms[:, None] * norms)
        found = {f"encoder/norm/{t}": n for t, n in zip(names, norms, strict=True)}
        for i, (a, row) in enumerate(zip(names, cosines.unbind(), strict=True)):
            found |= {f"encoder/cosine/{a}|{b}": cosine for b, cosine in zip(names[:i], row.unbind(), strict=False)}
        if isinstance(shaped.weights, Tensor) and _has_shape(shaped.weights, norms):
            weights = torch.where(reached, shaped.weights, nothing)
            found |= {f"encoder/weight/{t}": w for t, w in zip(names, weights, strict=True)}
        if "shape_encoder_gradient" in self.hooks.places:
            found[STOPPED] = _stopped(gradients, shaped)
        return found


def _stopped(gradients: EncoderGradients, shaped: Shaped) -> Tensor:
    """Whether no gradient enters the encoder although a branch has one: the encoder is not trained in this step."""
    if _has_shape(shaped.weights, gradients.norms):
        entering = (shaped.weights != 0) & gradients.reached
        return gradients.reached.any() & ~entering.any()
    levels = (shaped.weights,) if isinstance(shaped.weights, Tensor) else shaped.weights
    anything = torch.stack([level.any() for level in levels if level is not None])
    return gradients.reached.any() & ~anything.any()


def _has_shape(answer: Features, like: Tensor) -> bool:
    return isinstance(answer, Tensor) and answer.shape == like.shape
