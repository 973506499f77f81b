"""Which heads received a gradient, and where it came from.

Shape letters: V views, B samples, K tasks.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor


class HeadGradients:
    """Watches what arrives at the predictions in a backward pass.

    A sample's prediction that received a gradient although its label is withheld, or in a view that has no supervised
    loss, received it from a regularizer; no pass of its own is needed to tell.
    """

    def __init__(self) -> None:
        self.reached: dict[str, Tensor] = {}
        self.labelled: dict[str, Tensor] = {}

    def watch(self, predictions: Mapping[str, Tensor], labelled: Tensor) -> None:
        """Note a step's predictions, task → (V, B, …), whose gradients will come, and its labels (B, K)."""
        self.reached, self.labelled = {}, dict(zip(predictions, labelled.unbind(1), strict=True))
        for name, prediction in predictions.items():
            if prediction.requires_grad:
                prediction.register_hook(functools.partial(self.note, name))  # type: ignore[no-untyped-call]

    def note(self, name: str, gradient: Tensor) -> None:
        self.reached[name] = (gradient.detach() != 0).flatten(2).any(2)

    def shares(self) -> dict[str, Tensor]:
        """Of the last backward pass: share of the samples that a head learned from by label, and by a regularizer."""
        found = {}
        for name, labelled in self.labelled.items():
            reached = self.reached.get(name)
            if reached is None:
                reached = torch.zeros_like(labelled)[None]
            found[f"heads/labels/{name}"] = (reached[0] & labelled).float().mean()
            others = torch.cat((reached[:1] & ~labelled, reached[1:])).any(0)
            found[f"heads/regularizer/{name}"] = others.float().mean()
        return found
