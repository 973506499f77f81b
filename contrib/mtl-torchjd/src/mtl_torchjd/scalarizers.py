"""torchjd's scalarizers on the losses of the tasks that have a label in the batch.

Shape letters: K tasks, m of them active.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtl_core.look_ahead import LookAhead
from mtl_core.step import Step
from mtl_torchjd.catalogue import Recipe
from mtl_torchjd.subset import part, placed, seeded


class Scalarized(nn.Module):
    """A scalarizer of torchjd; what it learns is a parameter with an entry for each of the K tasks."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.remember(recipe.make(torch.arange(recipe.tasks)))

    def remember(self, scalarizer: nn.Module) -> None:
        """Make what has to be saved."""
        self.learned = nn.ParameterDict({n: p.detach().clone() for n, p in scalarizer.named_parameters()})

    def combine(self, losses: Tensor, means: Tensor, active: Tensor, step: Step) -> Tensor:
        rows = active.cpu().nonzero().flatten()
        total = losses.sum()
        if len(rows):
            values = at_means(losses, means).cpu()[rows]
            with seeded(step):
                total = self.scalarize(values, rows).to(losses)
        return total + sum(0 * p.sum() for p in self.parameters())  # on every rank every parameter has a gradient

    def scalarize(self, values: Tensor, rows: Tensor) -> Tensor:
        own = {name: p.cpu()[rows].to(values.dtype) for name, p in self.learned.items()}
        found: Tensor = functional_call(self.recipe.make(rows), own, (values,))
        return found

    def before_step(self, look_ahead: LookAhead) -> None: ...

    def after_step(self, look_ahead: LookAhead) -> None: ...

    def after_epoch(self) -> None: ...


class RollingAverages(Scalarized):
    """DWA: averages of an epoch over the steps in which a task had a label; without two of them its rate is 1."""

    sums: Tensor
    counts: Tensor
    history: Tensor

    def remember(self, scalarizer: nn.Module) -> None:
        self.register_buffer("sums", torch.zeros(self.recipe.tasks, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(self.recipe.tasks))
        self.register_buffer("history", torch.full((2, self.recipe.tasks), torch.nan, dtype=torch.float64))

    def scalarize(self, values: Tensor, rows: Tensor) -> Tensor:
        scalarizer = self.recipe.make(rows)
        history = self.history.cpu()[:, rows]
        seen = history.isfinite().all(0)
        scalarizer._previous_averages = list(torch.where(seen, history, torch.ones_like(history)).to(values.dtype))
        self.note(values.detach(), rows)
        found: Tensor = scalarizer(values)
        return found

    def note(self, values: Tensor, rows: Tensor) -> None:
        finite = values.isfinite()
        rows, values = rows[finite], values[finite]
        self.sums[rows.to(self.sums.device)] += values.to(self.sums)
        self.counts[rows.to(self.counts.device)] += 1

    def after_epoch(self) -> None:
        average = torch.where(self.counts > 0, self.sums / self.counts, self.history[1])
        self.history.copy_(torch.stack((self.history[1], average)))
        self.sums.zero_()
        self.counts.zero_()


class Famo(Scalarized):
    """FAMO: logits that learn from what a step did to the losses of its own batch."""

    logits: Tensor
    first: Tensor
    second: Tensor
    count: Tensor

    def remember(self, scalarizer: nn.Module) -> None:
        for name in ("logits", "first", "second"):
            self.register_buffer(name, torch.zeros(self.recipe.tasks))
        self.register_buffer("count", torch.zeros(()))

    def recall(self, rows: Tensor) -> Any:
        famo = self.recipe.make(rows)
        famo._w.data = part(self.logits.cpu(), rows)
        return famo

    def scalarize(self, values: Tensor, rows: Tensor) -> Tensor:
        found: Tensor = self.recall(rows)(values)
        return found

    def before_step(self, look_ahead: LookAhead) -> None:
        with torch.no_grad():
            self.losses = look_ahead.losses(look_ahead.train_batch)

    def after_step(self, look_ahead: LookAhead) -> None:
        rows = look_ahead.active(look_ahead.train_batch).cpu().nonzero().flatten()
        with torch.no_grad():
            after = look_ahead.losses(look_ahead.train_batch).cpu()[rows]
        if len(rows) and after.isfinite().all():
            self.keep(self.updated(self.recall(rows), self.losses.cpu()[rows], after, rows), rows)

    def updated(self, famo: Any, before: Tensor, after: Tensor, rows: Tensor) -> Any:
        """torchjd's object after its own step of Adam, with the moments that it would have."""
        famo._prev_losses = before
        famo._optimizer = torch.optim.Adam([famo._w], lr=famo.lr, weight_decay=famo.weight_decay)
        moments = {"exp_avg": part(self.first.cpu(), rows), "exp_avg_sq": part(self.second.cpu(), rows)}
        famo._optimizer.state[famo._w] = {"step": self.count.cpu().clone(), **moments}
        famo.update(after)
        return famo

    def keep(self, famo: Any, rows: Tensor) -> None:
        state = famo._optimizer.state[famo._w]
        found = {"logits": famo._w.detach(), "first": state["exp_avg"], "second": state["exp_avg_sq"]}
        for name, values in found.items():
            buffer = getattr(self, name)
            buffer.copy_(placed(buffer.cpu(), rows, values))
        self.count.copy_(state["step"])


def at_means(losses: Tensor, means: Tensor) -> Tensor:
    """L̄_t with the gradients of L_t: methods that adapt to a loss's size see its mean over the labels, (K,)."""
    return losses - losses.detach() + means.detach()


SPECIAL = {"DWA": RollingAverages, "FAMO": Famo}
