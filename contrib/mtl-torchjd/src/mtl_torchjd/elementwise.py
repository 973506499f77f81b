"""torchjd's aggregators that need the gradients themselves.

Shape letters: K tasks, m of them reached, D entries of z.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mtl_core import Branch, EncoderGradients, Features, MtlError, Shaped
from mtl_torchjd.catalogue import Recipe
from mtl_torchjd.subset import seeded


class Elementwise(nn.Module):
    """An aggregator of torchjd on the rows b_t, (m, D), of this process.

    :raises MtlError: there are several processes, each of which has only its own samples' part of the rows
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        if dist.is_initialized() and dist.get_world_size() > 1:
            raise MtlError(
                f"{recipe.name} of torchjd works on the gradients themselves, of which each of the"
                f" {dist.get_world_size()} processes has a part; use one device, or a method on the Gramian"
            )

    def shape(self, gradients: EncoderGradients) -> Shaped:
        reached = gradients.reached.cpu().nonzero().flatten()
        if not len(reached):
            return Shaped(torch.zeros_like(gradients.losses))
        branches = [gradients.branches[row] for row in reached.tolist()]
        like = [next(x for b in branches if (x := b[level]) is not None) for level in used(branches)]
        matrix = torch.stack([flat(b, like, used(branches)) for b in branches])
        return Shaped(self.features(self.combined(matrix, reached, gradients), like, branches))

    def combined(self, matrix: Tensor, reached: Tensor, gradients: EncoderGradients) -> Tensor:
        if not gradients.gramian.isfinite().all():
            return torch.full_like(matrix[0], torch.nan)
        aggregator = self.recipe.make(reached, matrix).to(matrix.device, matrix.dtype)
        try:
            with seeded(gradients.step):
                found: Tensor = aggregator(matrix)
        except (ValueError, RuntimeError) as error:
            raise MtlError(f"{self.recipe.name} of torchjd, with {len(matrix)} task(s) in a batch: {error}") from error
        return found

    def features(self, vector: Tensor, like: Sequence[Tensor], branches: Sequence[Branch]) -> Features:
        """(D,) → tensors like z; None for a level that no head uses."""
        parts = torch.split(vector, [level.numel() for level in like])
        found = {n: p.view_as(x).to(x.dtype) for n, p, x in zip(used(branches), parts, like, strict=True)}
        levels = tuple(found.get(level) for level in range(len(branches[0])))
        return levels if len(levels) > 1 else levels[0]  # type: ignore[return-value]


def used(branches: Sequence[Branch]) -> list[int]:
    """Levels of z that any branch reached."""
    return [level for level in range(len(branches[0])) if any(b[level] is not None for b in branches)]


def flat(b: Branch, like: Sequence[Tensor], levels: Sequence[int]) -> Tensor:
    """One row, float32 or better; zeros where the branch did not reach a level."""
    parts = [torch.zeros_like(x) if b[n] is None else b[n] for n, x in zip(levels, like, strict=True)]
    return torch.cat([p.flatten().to(torch.promote_types(p.dtype, torch.float32)) for p in parts if p is not None])
