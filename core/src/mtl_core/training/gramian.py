"""Inner products of the tasks' gradients at the seam.

Shape letters: K tasks, D entries of z (all levels of a pyramid together), P parameters of the encoder, W ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from mtl_core.step.encoder_gradients import Branch
from mtl_core.step.step import Features
from mtl_core.tasks.precision import at_least_float32

_BLOCK = 1 << 22
"""Entries of a row that one matrix product takes."""


def gramian(branches: tuple[Branch, ...], scale: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Inner products of the branch gradients over the global batch.

    On W ranks z's gradient is the concatenation of the ranks' gradients divided by W (DDP averages), so that
    G = Σ_ranks G_local / W²: exact, with K² numbers sent.

    :param branches: this rank's K branches; None counts as zero
    :param scale: loss scale, divided out
    :param group: a process group of the seam's own, so that DDP's collectives cannot be confused with it
    :return: (K, K), float32 or better
    """
    levels = [_level_products(level, scale) for level in zip(*branches, strict=True)]
    found = [products for products in levels if products is not None]
    result = _added(found) if found else torch.zeros(len(branches), len(branches), device=scale.device)
    if group is not None:
        dist.all_reduce(result, group=group)
        # W twice: each factor of a product is a local gradient divided by W
        result = result / dist.get_world_size(group) ** 2
    return result


def _added(products: Sequence[Tensor]) -> Tensor:
    """The sum of the levels' parts; most networks have one level, whose part needs no kernel to be added up."""
    return products[0] if len(products) == 1 else torch.stack(list(products)).sum(0)


def parameter_gramian(
    branches: tuple[Branch, ...],
    z: Features,
    parameters: Sequence[Tensor],
    scale: Tensor,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Inner products of the tasks' gradients of the encoder's parameters, by one encoder pass for each branch.

    The encoder's backward pass is linear in what enters it: weights found from these products and put on the branches
    give the weighted sum of the parameters' gradients. The ranks' gradients (K, P) are averaged first, because a
    product of averages is not an average of products.

    :param z: shared features, with the graph that leads back to the parameters
    :param parameters: of the encoder, P numbers together
    :return: (K, K), float32 or better
    """
    levels = (z,) if isinstance(z, Tensor) else z
    rows = torch.stack([_parameter_gradient(b, levels, parameters) for b in branches])
    if group is not None:
        dist.all_reduce(rows, group=group)
        rows = rows / dist.get_world_size(group)
    return rows @ rows.mT / scale.to(rows.dtype) ** 2


def _parameter_gradient(b: Branch, levels: Sequence[Tensor], parameters: Sequence[Tensor]) -> Tensor:
    """One branch through the encoder: (P,), float32 or better."""
    reached = [(level, gradient) for level, gradient in zip(levels, b, strict=True) if gradient is not None]
    found: Sequence[Tensor | None] = [None] * len(parameters)
    if reached:
        outputs, incoming = zip(*reached, strict=True)
        # retained: the step itself passes through this graph once more, after all branches
        found = torch.autograd.grad(outputs, parameters, incoming, retain_graph=True, allow_unused=True)
    flat = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
    return torch.cat([at_least_float32(g.flatten()) for g in flat])


def _level_products(level: tuple[Tensor | None, ...], scale: Tensor) -> Tensor | None:
    """One level's part of the Gramian, (K, K); None where no branch reached the level."""
    reached = [b for b in level if b is not None]
    if not reached:
        return None
    products = _inner_products(_flattened(reached), scale)
    if len(reached) == len(level):
        return products
    # rows and columns of zeros for the branches that did not reach this level, without asking the device for anything
    rows = [k for k, b in enumerate(level) if b is not None]
    entries = [torch.zeros_like(products[0, 0])] * len(level) ** 2
    for a, i in enumerate(rows):
        for b, j in enumerate(rows):
            entries[i * len(level) + j] = products[a, b]
    return torch.stack(entries).view(len(level), -1)


def _flattened(branches: Sequence[Tensor]) -> list[Tensor]:
    """Each branch as (D,), all in the order in which the first lies in memory, so that channels-last needs no copy."""
    order = sorted(range(branches[0].ndim), key=branches[0].stride, reverse=True)
    return [b.permute(order).reshape(-1) for b in branches]


def _inner_products(rows: Sequence[Tensor], scale: Tensor) -> Tensor:
    """Products of every two of the rows, each (D,), with the loss scale divided out: float32 or better.

    Half precision is divided by the scale first; its products could overflow.
    """
    dtype = torch.promote_types(rows[0].dtype, torch.float32)
    half = rows[0].dtype in (torch.float16, torch.bfloat16)
    scale = scale.to(dtype)
    divisor = scale if half else None
    result = _by_pairs(rows, dtype, divisor) if rows[0].device.type == "cpu" else _by_blocks(rows, dtype, divisor)
    return result if half else result / scale**2


def _by_pairs(rows: Sequence[Tensor], dtype: torch.dtype, divisor: Tensor | None) -> Tensor:
    """One product for each pair: on a CPU the fastest, since a row stays in the cache."""
    whole = [row.to(dtype) if divisor is None else row.to(dtype) / divisor for row in rows]
    count = len(rows)
    entries: list[Tensor] = [torch.empty(0)] * count**2
    for i, a in enumerate(whole):
        for j in range(i + 1):
            product = a.dot(whole[j])
            entries[i * count + j] = product
            entries[j * count + i] = product
    return torch.stack(entries).view(count, count)


def _by_blocks(rows: Sequence[Tensor], dtype: torch.dtype, divisor: Tensor | None) -> Tensor:
    """Matrix products over blocks: on an accelerator two launches a block and not one a pair, and no copy of all rows.

    Where a user allows TF32 for matrix products, the entries are rounded to it, and the result is their Gramian.
    """
    result: Tensor | None = None
    for parts in zip(*(torch.split(row, _BLOCK) for row in rows), strict=True):
        block = torch.stack(parts).to(dtype)
        block = block if divisor is None else block / divisor
        result = block @ block.mT if result is None else result.addmm_(block, block.mT)
    assert result is not None
    return result
