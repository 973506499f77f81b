"""torchjd's aggregators that need the gradients themselves.

Shape letters: K tasks, m of them reached, D entries of z.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mtl_core import Branch, EncoderGradients, Features, MtlError, Shaped, at_least_float32
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
        return Shaped(self.entering(branches, reached, gradients))

    def entering(self, branches: Sequence[Branch], reached: Tensor, gradients: EncoderGradients) -> Features:
        """The gradient that enters the encoder, like z.

        :param branches: of the reached tasks
        :param reached: their places among the K tasks, (m,)
        """
        levels = used(branches)
        like = [_first(branches, level) for level in levels]
        matrix = torch.stack([_flat(b, like, levels) for b in branches])
        vector = self._combined(matrix, reached, gradients)
        parts = torch.split(vector, [level.numel() for level in like])
        shaped = [entries.view_as(level) for entries, level in zip(parts, like, strict=True)]
        return like_z(shaped, branches)

    def _combined(self, matrix: Tensor, reached: Tensor, gradients: EncoderGradients) -> Tensor:
        if not gradients.gramian.isfinite().all():
            return torch.full_like(matrix[0], torch.nan)
        aggregator = self.recipe.make(reached, matrix).to(matrix.device, matrix.dtype)
        try:
            with seeded(gradients.step):
                found: Tensor = aggregator(matrix)
        except (ValueError, RuntimeError) as error:
            raise MtlError(f"{self.recipe.name} of torchjd, with {len(matrix)} task(s) in a batch: {error}") from error
        return found


def used(branches: Sequence[Branch]) -> list[int]:
    """Levels of z that any branch reached."""
    return [level for level in range(len(branches[0])) if any(b[level] is not None for b in branches)]


def rows_of(branches: Sequence[Branch], level: int) -> Tensor:
    """One level's gradients, (m, N, …), float32 or better; zeros where a branch did not reach it."""
    like = _first(branches, level)
    rows = [torch.zeros_like(like) if b[level] is None else b[level] for b in branches]
    stacked = torch.stack([row for row in rows if row is not None])
    return at_least_float32(stacked)


def like_z(shaped: Sequence[Tensor], branches: Sequence[Branch]) -> Features:
    """Gradients of the levels that are used → tensors like z, None for a level that no head uses."""
    found: dict[int, Tensor] = {}
    for level, gradient in zip(used(branches), shaped, strict=True):
        found[level] = gradient.to(_first(branches, level).dtype)
    levels = tuple(found.get(level) for level in range(len(branches[0])))
    return levels if len(levels) > 1 else levels[0]  # type: ignore[return-value]


def _first(branches: Sequence[Branch], level: int) -> Tensor:
    return next(x for b in branches if (x := b[level]) is not None)


def _flat(b: Branch, like: Sequence[Tensor], levels: Sequence[int]) -> Tensor:
    """One row, float32 or better; zeros where the branch did not reach a level."""
    parts = []
    for level, shape in zip(levels, like, strict=True):
        own = b[level]
        values = torch.zeros_like(shape) if own is None else own
        parts.append(at_least_float32(values.flatten()))
    return torch.cat(parts)
