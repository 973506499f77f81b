"""GCS: auxiliary gradients enter the encoder where they point the primary task's way.

Shape letters: K tasks.
"""

from __future__ import annotations

from typing import Literal

import torch
from attrs import field, validators
from torch import Tensor, nn

from mtl_auxiliary.primary import against_primary, primary_mask
from mtl_core import About, EncoderGradients, Tasks, help, hookimpl, plugin

_Variant = Literal["unweighted", "weighted"]


@plugin
class GCS(nn.Module):
    """GCS: an auxiliary gradient enters the encoder only where its cosine with the primary one is positive.

    Du et al., "Adapting Auxiliary Losses Using Gradient Similarity", 2018. Beyond the paper: several primary tasks, and
    batches that the primary task does not reach.
    """

    about = About(
        formula="b = b_pri + Σ_aux 1[cos(b_t, b_pri) > 0] · b_t; weighted: max(0, cos) in place of the indicator",
        source="Du et al., Adapting Auxiliary Losses Using Gradient Similarity, 2018",
        cost="inner products at the features; published: a backward pass of the shared parameters per task",
        departs=(
            "at the features by default; missing labels: where the primary is not reached auxiliaries enter with "
            "weight 1"
        ),
    )

    primary: str | tuple[str, ...] = field(
        validator=validators.min_len(1), metadata=help("the task, or tasks, that the encoder is trained for")
    )
    variant: _Variant = field(
        default="unweighted",
        validator=validators.in_(("unweighted", "weighted")),
        metadata=help("weight of an auxiliary task: 1 or 0 by the sign of the cosine, or max(0, cosine)"),
    )

    @hookimpl
    def setup(self, name: str, tasks: Tasks) -> None:
        self.is_primary = nn.Buffer(primary_mask(name, self.primary, tasks), persistent=False)

    @hookimpl
    def shape_encoder_gradient(self, gradients: EncoderGradients) -> Tensor:
        return similarity_weights(gradients.gramian, self.is_primary, self.variant)


def similarity_weights(gramian: Tensor, primary: Tensor, variant: _Variant = "unweighted") -> Tensor:
    """Weights of the branches, (K,).

    :param gramian: ⟨b_i, b_j⟩, (K, K)
    :param primary: bool (K,)
    :return: 1 for primary tasks, and for all where no primary branch was reached: there is nothing to compare with
    """
    products, cosines = against_primary(gramian, primary)
    similar = (products > 0).to(gramian.dtype) if variant == "unweighted" else cosines.clamp(min=0)
    nothing = (gramian.diagonal() == 0) | ~primary
    return torch.where(primary | nothing.all(), torch.ones_like(similar), similar)
