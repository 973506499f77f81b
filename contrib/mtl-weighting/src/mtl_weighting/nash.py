"""Nash-MTL: the encoder's gradient as the outcome of a bargain between the tasks.

Shape letters: K tasks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from attrs import field, validators
from torch import Tensor, nn

from mtl_core import (
    About,
    EncoderGradients,
    LookAhead,
    MtlError,
    Shaped,
    Step,
    Tasks,
    help,
    hookimpl,
    plugin,
    shared_gramian,
)
from mtl_weighting.gramians import cosines, per_branch, precise, with_ridge
from mtl_weighting.rules import log_per_task, weighted_sum


@plugin
class NashMTL(nn.Module):
    """Nash-MTL: the direction in which no task can gain without others losing more, in relation to what they have.

    Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022. The weights α > 0 solve G α = 1/α on the
    Gramian G. The published code solves a sequence of convex programs with a conic solver; here it is one convex
    problem, solved by Newton's method where the gradients are.
    """

    about = About(
        formula="b = Σ α_t b_t with G α = 1/α, G the Gramian of the branches",
        source="Navon et al., ICML 2022, Eq. 2 and Claim 3.2",
        cost=(
            "inner products at the features and a fixed number of Newton steps on K × K; heads = true: a forward pass "
            "and K backward passes"
        ),
        departs=(
            "α weighs what enters the encoder, published: the losses (heads = true); one convex problem, published: a "
            "sequence of convex programs; a ridge where gradients cancel out"
        ),
    )

    max_norm: float = field(
        default=1.0,
        validator=validators.ge(0),
        metadata=help("largest norm of the gradient that enters the encoder; 0 for no limit"),
    )
    update_every: int = field(
        default=1,
        validator=validators.ge(1),
        metadata=help("steps for which weights are kept, as long as the same tasks are reached"),
    )
    iterations: int = field(default=20, validator=validators.ge(1), metadata=help("Newton iterations in a step"))

    heads: bool = field(
        default=False,
        metadata=help(
            "published: α, found from the encoder's parameters, multiplies the losses and trains the heads too"
        ),
    )

    @property
    def fills(self) -> tuple[str, ...]:
        """The hooks that this instance answers."""
        if not self.heads:
            return "setup", "shape_encoder_gradient"
        limits = ("shape_encoder_gradient",) if self.max_norm else ()
        return "setup", "before_step", "combine_losses", *limits

    @hookimpl
    def setup(self, name: str, tasks: Tasks, places: Mapping[str, str]) -> None:
        if self.heads and places.get("combine_losses", name) != name:
            raise MtlError(
                f'{name}: heads = true needs the hook combine_losses, which plugin "{places["combine_losses"]}" fills;'
                f' give it the place ([use] combine_losses = "{name}"), or set heads = false'
            )
        self.weights = nn.Buffer(torch.zeros(len(tasks)))
        self.age = nn.Buffer(torch.zeros(()))

    @hookimpl
    def before_step(self, look_ahead: LookAhead) -> None:
        active = look_ahead.active(look_ahead.train_batch)
        if not active.any():  # these questions wait for the device: a pass for each task costs more
            return
        if self.age % self.update_every == 0 or ((self.weights != 0) != active).any():
            g = shared_gramian(look_ahead)
            # the published code divides G by its norm, which keeps α near 1; only its ratios matter to the encoder
            alpha = bargain(g, g.diagonal() != 0, self.iterations) * g.norm().sqrt()
            self.weights.copy_(alpha)
            self.age.zero_()
        self.age.add_(1)

    @hookimpl
    def combine_losses(self, losses: Tensor, active: Tensor, step: Step) -> Tensor:
        # nothing reaches an encoder that is frozen: then the heads are trained alone
        weights = torch.where(self.weights.any(), self.weights, torch.ones_like(self.weights))
        log_per_task(step, "weight", weights, active)
        return weighted_sum(losses, weights, active)

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Shaped:
        g = gradients.gramian
        reached = gradients.reached
        if self.heads:  # the branches have their weights: only the limit is left
            entering = limited(reached.to(precise(g).dtype), g, self.max_norm)
            return Shaped(entering.to(g.dtype))
        fresh = bargain(g, reached, self.iterations)
        due = (self.age % self.update_every == 0) | ((self.weights != 0) != reached).any()
        weights = torch.where(due, fresh, precise(self.weights))
        entering = limited(weights, g, self.max_norm) if self.max_norm else weights
        return Shaped(entering.to(g.dtype), self._remembered(weights, due, reached.any()))

    def _remembered(self, weights: Tensor, due: Tensor, bargained: Tensor) -> dict[str, Tensor]:
        """Weights (K,) and for how many steps they have been in use; a batch that reached nothing leaves both."""
        age = torch.where(due, torch.zeros_like(self.age), self.age) + 1
        now = {"weights": weights.to(self.weights.dtype), "age": age}
        return {name: torch.where(bargained, value, getattr(self, name)) for name, value in now.items()}


def limited(weights: Tensor, gramian: Tensor, max_norm: float) -> Tensor:
    """Weights (K,) scaled down so that ‖Σ_t weights_t b_t‖ ≤ ``max_norm``."""
    norm = (weights @ precise(gramian) @ weights).clamp(min=0).sqrt()
    return weights * torch.where(norm > max_norm, max_norm / norm, torch.ones_like(norm))


def bargain(gramian: Tensor, reached: Tensor, iterations: int = 20) -> Tensor:
    """α > 0 with G α = 1/α (Navon et al., Eq. 3), on the rows that were reached.

    With α_t = β_t/‖b_t‖ it is C β = 1/β, C the cosines: the minimum of ½ βᵀCβ − Σ log β_t, which is convex. The
    minimum is at infinity only where positive weights bring the gradients' sum to zero; a ridge on C keeps it finite.

    :param gramian: G (K, K)
    :param reached: bool (K,)
    :return: (K,), precise; 0 for a branch that nothing reached
    """
    c = with_ridge(cosines(gramian, reached), gramian.dtype)
    # the best of all β that are equal: a start from which few steps are needed
    beta = torch.ones_like(c[0]) * (len(c) / c.sum().clamp(min=1e-10)).sqrt()
    for _ in range(iterations):
        beta = _newton(c, beta)
    return per_branch(beta, gramian, reached)


def _newton(c: Tensor, beta: Tensor) -> Tensor:
    """One step from β (K,) towards the minimum of ½ βᵀCβ − Σ log β_t.

    Far from it (Newton decrement λ above 1/4) a step of length 1/(1 + λ) leads there: the function is self-concordant;
    the best of its multiples is taken, which needs a fifth of the steps. Near it the full step converges quadratically.
    """
    slope = c @ beta - 1 / beta
    factor = torch.linalg.cholesky_ex(c + torch.diag_embed(beta**-2))[0]
    step = -torch.cholesky_solve(slope[:, None], factor)[:, 0]
    decrement = (-(slope @ step)).clamp(min=0).sqrt()
    lengths = 2.0 ** torch.arange(8, dtype=c.dtype, device=c.device) / (1 + decrement)
    tried = beta + lengths[:, None] * step
    values = (tried @ c * tried).sum(1) / 2 - tried.clamp(min=0).log().sum(1)
    best = tried.index_select(0, values.argmin()[None])[0]
    return torch.where(decrement < 0.25, beta + step, best)
