"""Which heads received a gradient, and where it came from.

Shape letters: V views, B samples.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from mtl_core.tasks.precision import constant

_Source = Literal["labels", "regularizer"]


class HeadGradients:
    """Watches what arrives at the predictions in a backward pass, from the tasks' losses and from the regularizers.

    Each source is given predictions of its own, aliases of the same tensors, so that autograd itself keeps their
    gradients apart: no further pass is needed.
    """

    def __init__(self) -> None:
        self.reached: dict[tuple[_Source, str], Tensor] = {}

    def start(self, predictions: Mapping[str, Tensor]) -> None:
        """A step begins, with predictions task → (V, B, …): nothing has reached them yet."""
        nothing = {name: constant(False, p.device).expand(p.shape[:2]) for name, p in predictions.items()}
        self.reached = {(source, name): zero for source in get_args(_Source) for name, zero in nothing.items()}

    def watched(self, source: _Source, predictions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The predictions, task → (V, B, …), whose gradients will be counted as coming from ``source``."""
        return {name: self._watched_one(source, name, p) for name, p in predictions.items()}

    def _watched_one(self, source: _Source, name: str, prediction: Tensor) -> Tensor:
        # a hook on the prediction itself would see the sum of all sources
        alias = prediction.view_as(prediction)
        # a frozen head on a frozen encoder predicts without a graph, and register_hook refuses such a tensor
        if alias.requires_grad:
            alias.register_hook(functools.partial(self.note, source, name))  # type: ignore[no-untyped-call]
        return alias

    def note(self, source: _Source, name: str, gradient: Tensor) -> None:
        self.reached[source, name] = gradient.detach().any(dim=tuple(range(2, gradient.ndim)))

    def shares(self) -> dict[str, Tensor]:
        """Of the last backward pass: share of the samples that a head learned from, by source; both may be 1."""
        names = [f"heads/{source}/{name}" for source, name in self.reached]
        # (heads, V, B) → (heads,): together, since a head at a time would launch hundreds of small kernels
        shares = torch.stack(list(self.reached.values())).any(1).float().mean(1)
        return dict(zip(names, shares, strict=True))
