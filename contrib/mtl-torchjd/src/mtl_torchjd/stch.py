"""STCH on losses that are compared with where they stood after a warm-up.

Shape letters: K tasks, m of them active.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor, nn

from mtl_torchjd.catalogue import Recipe
from mtl_torchjd.scalarizers import EpochAverages

_SMALL = 1e-20
"""Keeps the logarithm of a loss of 0 finite; LibMTL's."""
_LEAST = 1e-12
"""Nadir is not taken to be smaller, so that the slope of log(L / nadir + 1e-20) fits into float32."""


class NadirSTCH(EpochAverages):
    """STCH as its authors' code and LibMTL have it for networks: m · μ log Σ_t exp(log(L̄_t / nadir_t) / μ).

    Lin et al., "Smooth Tchebycheff Scalarization for Multi-Objective Optimization", ICML 2024. In epochs 0 to
    ``warmup`` the loss is Σ log L̄_t; nadir_t is the mean of L̄_t over the steps of epoch ``warmup`` in which t had a
    label. A task that had none then takes the mean of its first later epoch, and until that is over its own value.

    :param warmup: number of the epoch that nadir is taken from
    """

    nadir: Tensor
    ended: Tensor

    def __init__(self, recipe: Recipe, warmup: int) -> None:
        # torchjd's weights of 1/m would divide the logarithms too
        settings = {"weights": (1.0,) * recipe.tasks, **recipe.settings}
        super().__init__(attrs.evolve(recipe, settings=settings))
        self.warmup = warmup

    def remember(self, scalarizer: nn.Module) -> None:
        super().remember(scalarizer)
        self.register_buffer("nadir", torch.full((self.recipe.tasks,), torch.nan, dtype=torch.float64))
        self.register_buffer("ended", torch.zeros((), dtype=torch.long))

    def scalarize(self, values: Tensor, rows: Tensor) -> Tensor:
        self.note(values.detach(), rows)
        if self.ended <= self.warmup:
            return (values + _SMALL).log().sum()
        nadir = self.nadir.cpu()[rows].to(values.dtype)
        nadir = torch.where(nadir.isnan(), values.detach(), nadir).clamp(min=_LEAST)
        relative: Tensor = self.recipe.make(rows, values)((values / nadir + _SMALL).log())
        return len(rows) * relative

    def after_epoch(self) -> None:
        average = self.take_averages()
        if self.ended >= self.warmup:
            self.nadir.copy_(torch.where(self.nadir.isnan(), average, self.nadir))
        self.ended.add_(1)
