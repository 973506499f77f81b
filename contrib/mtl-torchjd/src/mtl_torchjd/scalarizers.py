"""torchjd's scalarizers on the losses of the tasks that have a label in the batch.

Shape letters: K tasks, m of them active.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtl_core import LookAhead, Step
from mtl_torchjd.catalogue import Recipe
from mtl_torchjd.subset import placed, seeded


class Scalarized(nn.Module):
    """A scalarizer of torchjd; what it learns is a parameter with an entry for each of the K tasks."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.remember(recipe.make(torch.arange(recipe.tasks)))

    def remember(self, scalarizer: nn.Module) -> None:
        """Make the parameters and buffers of the state."""
        self.learned = nn.ParameterDict({n: p.detach().clone() for n, p in scalarizer.named_parameters()})

    def combine(self, losses: Tensor, means: Tensor, active: Tensor, step: Step) -> Tensor:
        rows = active.cpu().nonzero().flatten()
        total = losses.sum()
        weights = torch.zeros(0)
        if len(rows):
            total, weights = self._weighed(_at_means(losses, means), rows, step)
        _log_weights(step, weights, rows)
        return total + sum(0 * p.sum() for p in self.parameters())  # on every rank every parameter has a gradient

    def _weighed(self, losses: Tensor, rows: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """The total of some tasks, where the losses (K,) are, and ∂total/∂L_t (m,), on the host."""
        values = losses.cpu()[rows]
        with seeded(step):
            total = self.scalarize(values, rows)
        # this backward pass ends at the values on the host: it reaches neither the device nor the network
        weights = torch.autograd.grad(total, values, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
        return total.to(losses), weights

    def scalarize(self, values: Tensor, rows: Tensor) -> Tensor:
        own = {name: p.cpu()[rows].to(values.dtype) for name, p in self.learned.items()}
        found: Tensor = functional_call(self.recipe.make(rows, values), own, (values,))
        return found

    def before_step(self, look_ahead: LookAhead) -> None: ...

    def after_step(self, look_ahead: LookAhead) -> None: ...

    def after_epoch(self) -> None: ...


class EpochAverages(Scalarized):
    """What needs a task's mean loss of an epoch, over the steps in which it had a label."""

    sums: Tensor
    counts: Tensor

    def remember(self, scalarizer: nn.Module) -> None:
        self.register_buffer("sums", torch.zeros(self.recipe.tasks, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(self.recipe.tasks))

    def note(self, values: Tensor, rows: Tensor) -> None:
        """Count one step with the losses ``values`` (m,) of the tasks ``rows`` (m,)."""
        finite = values.isfinite()
        rows = rows[finite]
        values = values[finite]
        self.sums[rows.to(self.sums.device)] += values.to(self.sums)
        self.counts[rows.to(self.counts.device)] += 1

    def take_averages(self) -> Tensor:
        """The epoch's means (K,), NaN where a task had no label; the next epoch begins at 0."""
        average = self.sums / self.counts
        self.sums.zero_()
        self.counts.zero_()
        return average


class RollingAverages(EpochAverages):
    """DWA: averages of the last two epochs; without two of them a task's rate is 1."""

    history: Tensor

    def remember(self, scalarizer: nn.Module) -> None:
        super().remember(scalarizer)
        self.register_buffer("history", torch.full((2, self.recipe.tasks), torch.nan, dtype=torch.float64))

    def scalarize(self, values: Tensor, rows: Tensor) -> Tensor:
        scalarizer = self.recipe.make(rows)
        history = self.history.cpu()[:, rows]
        seen = history.isfinite().all(0)
        scalarizer._previous_averages = list(torch.where(seen, history, torch.ones_like(history)).to(values.dtype))
        self.note(values.detach(), rows)
        found: Tensor = scalarizer(values)
        return found

    def after_epoch(self) -> None:
        average = self.take_averages()
        latest = torch.where(average.isnan(), self.history[1], average)
        self.history.copy_(torch.stack((self.history[1], latest)))


def _at_means(losses: Tensor, means: Tensor) -> Tensor:
    """L̄_t with the gradients of L_t: methods that adapt to a loss's size see its mean over the labels, (K,)."""
    return losses - losses.detach() + means.detach()


def _log_weights(step: Step, weights: Tensor, rows: Tensor) -> None:
    """Log ``weight/<task>`` of the tasks ``rows``, NaN for the others, which an epoch's mean leaves out."""
    shown = placed(weights.new_full((len(step.tasks),), torch.nan), rows, weights)
    shown = shown.to(step.task_losses.device, non_blocking=True)  # the host need not wait for it
    for task, weight in zip(step.tasks.names, shown, strict=True):
        step.log(f"weight/{task}", weight)
