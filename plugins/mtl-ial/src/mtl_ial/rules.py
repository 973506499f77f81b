"""The formulas of Impartial Auxiliary Learning, on plain tensors.

Everything that the encoder's rule needs of the branch gradients b_t is their Gramian G[i, j] = ⟨b_i, b_j⟩.
Shape letters: K tasks.
"""

from __future__ import annotations

import math
from typing import Literal

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

_Mapping = Literal["relu", "softplus"]


def encoder_weight(sigma: Tensor, mapping: _Mapping = "relu") -> Tensor:
    """f(σ) = min(1, g(1 − σ)), Eq. 9: an uncertain task counts less; any shape."""
    if mapping == "relu":
        return (1 - sigma).clamp(0, 1)
    return F.softplus(1 - sigma).clamp(max=1)


def inverse(weight: float, mapping: _Mapping = "relu") -> float:
    """The σ with f(σ) = ``weight``: 1 − g⁻¹(weight), for a weight between 0 and 1."""
    return 1 - (weight if mapping == "relu" else math.log(math.expm1(weight)))


def uncertainty_loss(losses: Tensor, means: Tensor, active: Tensor, log_sigma: Tensor) -> Tensor:
    """Σ_active s_t (L̄_t / (2σ_t²) + log σ_t) with s_t = L_t / L̄_t, Eq. 3.

    s_t is the share of the batch that carries t. It is a constant here, so that predictions get the gradient of
    L_t / (2σ_t²), and σ_t settles at σ_t² = L̄_t, however few labels there are. An absent task adds nothing.

    :param losses: L_t (K,)
    :param means: L̄_t (K,)
    :param active: bool (K,)
    :param log_sigma: (K,)
    :return: scalar
    """
    means = means.detach()
    zero = means.new_zeros(())
    # an absent task is left out of both factors and not of their products: no gradient then has to be masked
    share = torch.where(active & (means != 0), losses.detach() / means, zero)
    weights = torch.where(active, (-2 * log_sigma).exp() / 2, zero)
    return (losses * weights + share * log_sigma).sum()


@attrs.frozen(eq=False)
class Reference:
    """Running mean of ‖b_pri‖, for batches without a primary label; ``count`` is how many norms it holds."""

    mean: Tensor
    count: Tensor

    def updated(self, norm: Tensor, present: Tensor, momentum: float) -> Reference:
        """With one more norm, where there is one."""
        moved = momentum * self.mean + (1 - momentum) * norm
        return Reference(torch.where(present, moved, self.mean), self.count + present)

    def corrected(self, momentum: float) -> Tensor:
        """The mean without its bias towards the zero it started from; meaningless before the first norm."""
        return self.mean / (1 - momentum**self.count)


def primary_coefficients(primary: Tensor, decoder_weights: Tensor, active: Tensor) -> Tensor:
    """What primary branches are multiplied with: 1/w_t where labelled, 1 where not; 0 for auxiliary tasks."""
    divided = primary & active & (decoder_weights != 0)
    return torch.where(divided, decoder_weights.reciprocal(), primary.to(decoder_weights))


def primary_norm(gramian: Tensor, coefficients: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """‖b_pri‖ of the labelled primary tasks' sum, and whether the batch has any of them: two scalars."""
    counted = active & (coefficients != 0) & (gramian.diagonal() != 0)
    # the others' rows are left out, and not multiplied with 0, so that what is NaN there stays out of the norm
    pairs = counted[:, None] & counted
    scaled = gramian * coefficients[:, None] * coefficients
    return torch.where(pairs, scaled, gramian.new_zeros(())).sum().clamp(min=0).sqrt(), counted.any()


def impartial_weights(
    gramian: Tensor,
    weights: Tensor,
    primary: Tensor,
    decoder_weights: Tensor,
    active: Tensor,
    reference: Tensor | None = None,
) -> Tensor:
    """Weights of the branches in b = b_pri + Σ_aux f(σ_t) · ‖b_pri‖/‖b_t‖ · b_t, Eq. 7 and 8.

    :param gramian: G (K, K)
    :param weights: f(σ_t) (K,)
    :param primary: bool (K,)
    :param decoder_weights: ∂total/∂L_t (K,)
    :param active: bool (K,), labelled in the batch
    :param reference: ‖b_pri‖ to use where the batch has no primary label; scalar, NaN or None for none yet
    :return: (K,); 0 for a branch that nothing reached
    """
    coefficients = primary_coefficients(primary, decoder_weights, active)
    norm = primary_norm(gramian, coefficients, active)
    return weights_for_norm(gramian, weights, primary, coefficients, norm, reference)


def weights_for_norm(
    gramian: Tensor,
    weights: Tensor,
    primary: Tensor,
    coefficients: Tensor,
    norm: tuple[Tensor, Tensor],
    reference: Tensor | None = None,
) -> Tensor:
    """:func:`impartial_weights`, where what it asks of the primary tasks is known already.

    :param coefficients: of :func:`primary_coefficients`
    :param norm: of :func:`primary_norm`
    """
    own, present = norm
    norms = gramian.diagonal().clamp(min=0).sqrt()
    absent = norms if reference is None else torch.where(reference.isnan(), norms, reference)
    auxiliary = weights * torch.where(present, own, absent) / norms
    chosen = torch.where(primary, coefficients, auxiliary)
    # norms holds the zero there; what is NaN stays NaN
    return torch.where(norms == 0, norms, chosen)


def plain_weights(gramian: Tensor, weights: Tensor, primary: Tensor, decoder_weights: Tensor, active: Tensor) -> Tensor:
    """Weights of the branches in b = b_pri + Σ_aux f_t · b_t, every b_t that of the plain L_t; (K,).

    Tab. VIII without the norms: the branch of a labelled task is divided by its decoder weight, auxiliary or not.
    """
    everyone = primary_coefficients(torch.ones_like(primary), decoder_weights, active)
    chosen = everyone * torch.where(primary, torch.ones_like(weights), weights)
    return torch.where(gramian.diagonal() == 0, 0.0, chosen)
