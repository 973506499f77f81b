"""torchjd's weightings on the Gramian of the branches that were reached.

Shape letters: K tasks, m of them reached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from mtl_core import EncoderGradients, MtlError, Shaped, Step
from mtl_torchjd.catalogue import Recipe
from mtl_torchjd.subset import part, placed, seeded

_D = torch.float64


@attrs.frozen
class _Memory:
    """What a stateful weighting remembers: torchjd's attribute → value at the start, and the key that guards it."""

    start: Callable[[int], dict[str, Tensor]]
    key: Callable[[int], object] = lambda tasks: None


_MEMORIES = {
    "GradVac": _Memory(lambda k: {"_phi_t": torch.zeros(k, k, dtype=_D)}, lambda m: (m, _D)),
    "PCD": _Memory(
        lambda k: {"_sq_norm_ema": torch.zeros(k, dtype=_D), "_n_steps": torch.zeros(k, dtype=torch.long)}, lambda m: m
    ),
    "CRMOGM": _Memory(lambda k: {"_lambda": torch.full((k,), torch.nan, dtype=_D)}),
}
_NOTHING = _Memory(lambda k: {})


class GramianWeights(nn.Module):
    """A weighting of torchjd with its state, a buffer for every attribute that it remembers.

    The reached rows go to the host in one piece, and m weights come back.

    :param recipe: of a weighting
    :param rescale: whether the mean diagonal of the Gramian is divided out
    """

    def __init__(self, recipe: Recipe, rescale: bool) -> None:
        super().__init__()
        self.recipe = recipe
        self.rescale = rescale
        self._memory = _MEMORIES.get(recipe.name, _NOTHING)
        for name, value in self._memory.start(recipe.tasks).items():
            self.register_buffer(name, value)

    def shape(self, gradients: EncoderGradients) -> Shaped:
        weights, state = self.solve(gradients.gramian, gradients.step)
        return Shaped(weights, state)

    def solve(self, gramian: Tensor, step: Step | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Weights (K,) for a Gramian (K, K), 0 for a row of zeros, and the state after a step with them.

        :param step: what random methods draw by
        """
        g = gramian.detach().to("cpu", _D)
        if not g.isfinite().all():
            return torch.full_like(gramian[0], torch.nan), {}
        rows = self._order((g.diagonal() != 0).nonzero().flatten())
        if not len(rows):
            return torch.zeros_like(gramian[0]), {}
        reduced = part(g, rows)
        if self.rescale:
            reduced = reduced / reduced.diagonal().mean()
        weighting = self.recall(rows, reduced)
        with seeded(step):
            found = self.ask(weighting, reduced)
        weights = placed(torch.zeros(len(g), dtype=_D), rows, found)
        return weights.to(gramian), self.remembered(weighting, rows)

    def _order(self, rows: Tensor) -> Tensor:
        """The rows as the method wants them; none where its primary task was not reached."""
        if self.recipe.leader is None:
            return rows
        first = rows == self.recipe.leader
        return torch.cat((rows[first], rows[~first])) if first.any() else rows[:0]

    def ask(self, weighting: Any, gramian: Tensor) -> Tensor:
        """What the method answers for a Gramian (m, m) without rows of zeros: (m,)."""
        try:
            found: Tensor = weighting(gramian)
        except (ValueError, RuntimeError) as error:
            raise MtlError(f"{self.recipe.name} of torchjd, with {len(gramian)} task(s) in a batch: {error}") from error
        return found

    def recall(self, rows: Tensor, gramian: Tensor) -> Any:
        """torchjd's object with what it remembers of these tasks."""
        weighting = self.recipe.make(rows, gramian)
        for name, buffer in self.named_buffers():
            setattr(weighting, name, _known(part(buffer.cpu(), rows)))
        # torchjd forgets its state when this key is not that of the next Gramian's size and type
        if hasattr(weighting, "_state_key"):
            weighting._state_key = self._memory.key(len(rows))
        return weighting

    def remembered(self, weighting: Any, rows: Tensor) -> dict[str, Tensor]:
        """Its state after a step, of all tasks."""
        state = {}
        for name, buffer in self.named_buffers():
            values = placed(buffer.cpu(), rows, getattr(weighting, name))
            state[f"method.{name}"] = values.to(buffer.device)
        return state


def _known(values: Tensor) -> Tensor | None:
    """NaN marks a task that was never seen: it begins with the mean of the others; without others, all begin again."""
    if not values.is_floating_point() or not values.isnan().any():
        return values
    if values.isnan().all():
        return None
    return torch.where(values.isnan(), values.nanmean(), values)
