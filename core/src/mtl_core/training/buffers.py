"""Buffers as they were before a step, put back if the step is skipped."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor


@attrs.define(eq=False)
class BufferGuard:
    """Buffers (batch-norm statistics, shapers' state) as they were before a step, put back if the step is skipped."""

    buffers: list[Tensor]
    saved: list[Tensor] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.saved = [torch.empty_like(b) for b in self.buffers]

    def save(self) -> None:
        for saved, buffer in zip(self.saved, self.buffers, strict=True):
            saved.copy_(buffer)

    def restore(self, skipped: Tensor) -> None:
        """Put the saved values back where ``skipped``, a scalar tensor, is true; no host sync."""
        for saved, buffer in zip(self.saved, self.buffers, strict=True):
            buffer.copy_(torch.where(skipped, saved, buffer))
