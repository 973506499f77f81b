"""Memory for the gradients of many branches, kept between steps.

Shape letters: K tasks, D entries of a level of z.

On a CPU K gradients that wait at the seam are K new blocks in every step, which the C library asks the system for
again, page by page. Here each is copied, while the cache holds it, into a row of a matrix (K, D) that is allocated
once, and its own block is free for the next branch. The Gramian is then one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

MANY = 8
"""Branches from which on the copies pay; with a few, products of pairs in the cache are faster."""


class BranchRows:
    """What a training step keeps: one matrix for each level of z."""

    def __init__(self) -> None:
        self._matrices: dict[int, Tensor] = {}
        self._user: LentRows | None = None

    def lend(self, branches: int) -> LentRows:
        """Rows for one way through the seam."""
        return LentRows(self, branches)

    def matrix(self, user: LentRows, level: int, like: Tensor) -> Tensor:
        """(K, D) that nobody else uses until ``user`` is done."""
        size = (user.branches, like.numel())
        if self._user not in (None, user):
            # two steps are under way at once: the second has rows of its own
            return like.new_empty(size)
        self._user = user
        found = self._matrices.get(level)
        if found is None or found.shape != size or found.dtype != like.dtype or found.device != like.device:
            self._matrices[level] = found = like.new_empty(size)
        return found

    def take_back(self, user: LentRows) -> None:
        if self._user is user:
            self._user = None


class LentRows:
    """The rows of one way through the seam."""

    def __init__(self, rows: BranchRows, branches: int) -> None:
        self.rows = rows
        self.branches = branches
        self._matrices: dict[int, Tensor] = {}

    def put(self, level: int, branch: int, gradient: Tensor) -> Tensor:
        """The gradient's values in a row, as a tensor of its shape; a row's entries are in the order of memory."""
        if level not in self._matrices:
            self._matrices[level] = self.rows.matrix(self, level, gradient)
        row = self._matrices[level][branch]
        order = sorted(range(gradient.ndim), key=gradient.stride, reverse=True)
        inverse = sorted(range(gradient.ndim), key=order.__getitem__)
        kept = row.view([gradient.shape[dim] for dim in order]).permute(inverse)
        return kept.copy_(gradient)

    def done(self, answer: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        """The answer, copied where it lies in the rows, which the next step may overwrite."""
        own = {matrix.untyped_storage().data_ptr() for matrix in self._matrices.values()}
        safe = tuple(x.clone() if x is not None and x.untyped_storage().data_ptr() in own else x for x in answer)
        self._matrices = {}
        self.rows.take_back(self)
        return safe


class Deposit(torch.autograd.Function):
    """z forwards; backwards a branch's gradient goes into its row and is given on from there."""

    @staticmethod
    def forward(ctx: Any, lent: LentRows, branch: int, scale: Any, *levels: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.lent = lent
        ctx.branch = branch
        ctx.scale = scale
        return tuple(level.view_as(level) for level in levels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        # a copy has no graph; and only the pass of the total loss ends at a seam that gives the rows back
        if torch.is_grad_enabled() or not ctx.scale.recorded:
            return None, None, None, *gradients
        kept = (None if g is None else ctx.lent.put(level, ctx.branch, g) for level, g in enumerate(gradients))
        return None, None, None, *kept


def deposited(copies: list[tuple[Tensor, ...]], lent: LentRows, scale: Any) -> Iterator[tuple[Tensor, ...]]:
    """z for one head after the other.

    Made when a head asks for it: autograd runs what was made last first, so that a branch's gradient is in its row
    before the backward pass of the next head begins.
    """
    for branch, levels in enumerate(copies):
        yield Deposit.apply(lent, branch, scale, *levels)


def as_matrix(rows: list[Tensor]) -> Tensor | None:
    """(K, D) over the memory of K rows (D,), if they lie one after the other in it."""
    first = rows[0]
    place, size = first.untyped_storage().data_ptr(), len(first)
    for number, row in enumerate(rows):
        follows = row.storage_offset() == first.storage_offset() + number * size
        if not follows or row.untyped_storage().data_ptr() != place or not row.is_contiguous():
            return None
    return first.as_strided((len(rows), size), (size, 1))
