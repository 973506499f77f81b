"""The K gradients where they enter the encoder, and what a method answers.

Shape letters: K tasks.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import attrs
from torch import Tensor

from mtl_core.step.step import Features, Step
from mtl_core.tasks.tasks import Tasks

Branch = tuple[Tensor | None, ...]
"""One task's gradient at z, a tensor per level; None where nothing reached it."""


@attrs.frozen(eq=False)
class Shaped:
    """What a gradient shaper decides.

    :param weights: (K,), b = Σ_t weights_t · b_t enters the encoder; or the shaped gradient itself, like z
    :param state: buffer name → proposed value; kept only if the Gramian is finite and the optimizer step is taken
    """

    weights: Features
    state: Mapping[str, Tensor] = attrs.field(factory=dict)


@attrs.define(eq=False)
class EncoderGradients:
    """The K gradients where they enter the encoder, as a method needs them.

    ``gramian`` (K, K): ⟨b_i, b_j⟩ over the global batch, loss scale divided out, at least float32; ``norms`` (K,);
    ``active`` bool (K,): labelled in the global batch; ``reached`` bool (K,): the branch is not zero; ``losses`` and
    ``means`` (K,): L_t and L̄_t; ``decoder_weights`` (K,): ∂total/∂L_t; ``branches``: this rank's gradients, undivided,
    for element-wise methods; ``step``: the step they belong to (None outside the framework).
    """

    tasks: Tasks
    gramian: Tensor
    active: Tensor
    losses: Tensor
    means: Tensor
    decoder_weights: Tensor
    branches: tuple[Branch, ...] = ()
    step: Step | None = None

    # kept: core and several plugins ask for both, and each time would launch their kernels again
    @functools.cached_property
    def norms(self) -> Tensor:
        return self.gramian.diagonal().clamp(min=0).sqrt()

    @functools.cached_property
    def reached(self) -> Tensor:
        # != and not >: a NaN row was reached, and must stay visible
        return self.gramian.diagonal() != 0
