"""FAMO: logits that learn from what a step did to the losses of its own batch.

Shape letters: K tasks, m of them active.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from mtl_core import LookAhead
from mtl_torchjd.scalarizers import Scalarized
from mtl_torchjd.subset import part, placed


class Famo(Scalarized):
    """torchjd's FAMO; each task has its logit, Adam's moments of it, and the number of steps that these have seen."""

    logits: Tensor
    first: Tensor
    second: Tensor
    count: Tensor

    def remember(self, scalarizer: nn.Module) -> None:
        for name in ("logits", "first", "second", "count"):
            self.register_buffer(name, torch.zeros(self.recipe.tasks))

    def scalarize(self, values: Tensor, rows: Tensor) -> Tensor:
        famo = self.recipe.make(rows)
        famo._w.data = part(self.logits.cpu(), rows)
        found: Tensor = famo(values)
        return found

    def before_step(self, look_ahead: LookAhead) -> None:
        with torch.no_grad():
            self.losses = look_ahead.losses(look_ahead.train_batch)

    def after_step(self, look_ahead: LookAhead) -> None:
        rows = look_ahead.active(look_ahead.train_batch).cpu().nonzero().flatten()
        with torch.no_grad():
            after = look_ahead.losses(look_ahead.train_batch).cpu()[rows]
        if len(rows) and after.isfinite().all():
            self._learn(self.losses.cpu()[rows], after, rows)

    def _learn(self, before: Tensor, after: Tensor, rows: Tensor) -> None:
        """torchjd's own update of these tasks' logits, and its new state."""
        full = {name: buffer.cpu() for name, buffer in self.named_buffers()}
        own = {name: part(values, rows) for name, values in full.items()}
        famo = self.recipe.make(rows)
        famo._w.data = own["logits"]
        famo._prev_losses = before
        famo._optimizer = _one_by_one(famo, **own)
        famo.update(after)
        for name, values in own.items():
            getattr(self, name).copy_(placed(full[name], rows, values))


def _one_by_one(famo: Any, logits: Tensor, first: Tensor, second: Tensor, count: Tensor) -> Adam:
    """The Adam that torchjd's object would make, with a parameter for each logit: torch counts steps by parameter.

    :param logits: the object's own (m,); like the moments and counts (m,) changed in place
    """
    parameters = [nn.Parameter(logit) for logit in logits]
    adam = Adam(parameters, lr=famo.lr, weight_decay=famo.weight_decay)
    for k, parameter in enumerate(parameters):
        adam.state[parameter] = {"step": count[k], "exp_avg": first[k], "exp_avg_sq": second[k]}

    def split(*_: object) -> None:
        for parameter, gradient in zip(parameters, famo._w.grad, strict=True):
            parameter.grad = gradient

    adam.register_step_pre_hook(split)
    return adam
