"""Buffers of a module, all together: put back after a skipped step, made equal on all ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


class _SameKind:
    """Tensors of one type on one device, and room for a copy of them in one piece.

    A network has hundreds of small buffers. Copied one by one, each costs a kernel launch in every step.
    """

    def __init__(self, buffers: Sequence[Tensor]) -> None:
        self.buffers = list(buffers)
        # one block of memory; `parts` are views into it with the shapes of the buffers
        self.flat = torch.cat([buffer.reshape(-1) for buffer in self.buffers])
        parts = torch.split(self.flat, [buffer.numel() for buffer in self.buffers])
        self.parts = [part.view(buffer.shape) for part, buffer in zip(parts, self.buffers, strict=True)]

    def save(self) -> None:
        torch._foreach_copy_(self.parts, self.buffers)

    def restore(self, skipped: Tensor) -> None:
        now = torch.cat([buffer.reshape(-1) for buffer in self.buffers])
        # not a weighted mean of both: NaN · 0 is NaN, and a skipped step may have left NaN behind
        torch.where(skipped, self.flat, now, out=self.flat)
        torch._foreach_copy_(self.buffers, self.parts)

    def broadcast(self, group: dist.ProcessGroup) -> None:
        self.save()
        dist.broadcast(self.flat, src=0, group=group)
        torch._foreach_copy_(self.buffers, self.parts)


def _grouped(buffers: Sequence[Tensor]) -> list[_SameKind]:
    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for buffer in map(_as_bytes, buffers):
        groups.setdefault((buffer.dtype, buffer.device), []).append(buffer)
    return [_SameKind(group) for group in groups.values()]


def _as_bytes(buffer: Tensor) -> Tensor:
    """The memory of a buffer: numbers, counts and switches then are of one kind, and are copied by the same kernels."""
    if not buffer.is_contiguous():
        # its entries do not lie one after the other: it goes with those of its own type
        return buffer
    return buffer.detach().view(-1).view(torch.uint8)


class BufferGuard:
    """Buffers (batch-norm statistics, shapers' state) as they were before a step, put back if the step is skipped."""

    def __init__(self, buffers: Sequence[Tensor]) -> None:
        self._groups = _grouped(buffers)

    # without gradients: a plugin may have registered a buffer that requires one
    @torch.no_grad()
    def save(self) -> None:
        for group in self._groups:
            group.save()

    @torch.no_grad()
    def restore(self, skipped: Tensor) -> None:
        """Put the saved values back where ``skipped``, a scalar tensor of bool, is true; no host sync."""
        for group in self._groups:
            group.restore(skipped)


@torch.no_grad()
def broadcast_buffers(buffers: Sequence[Tensor], group: dist.ProcessGroup | None) -> None:
    """Give every rank the buffers of rank 0.

    DDP does this before each forward pass in training. Behind the last one every rank has batch-norm statistics of its
    own, and an evaluation shared by the ranks would be that of no checkpoint.
    """
    if group is None:
        return
    for group_of_buffers in _grouped(buffers):
        group_of_buffers.broadcast(group)
