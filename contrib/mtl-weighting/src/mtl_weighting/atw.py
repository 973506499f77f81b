"""ATW: uncertainty weighting that also looks at how the losses change.

Shape letters: K tasks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from attrs import field, validators
from torch import Tensor, nn

from mtl_core import About, Step, Tasks, help, hookimpl, plugin
from mtl_weighting.rules import log_per_task, present, shares, uncertainty_terms, usable
from mtl_weighting.uw import UW


@plugin
class ATW(UW):
    """ATW (reconstructed): UW, with more weight for a task whose recent loss is high beside its long-term mean.

    Chen et al., "UMT-Net: A Uniform Multi-Task Network with Adaptive Task Weighting", IEEE Transactions on Intelligent
    Vehicles 2024. Its formula is not public, only that it starts from UW and uses "short-term variation and long-term
    statistics of task losses"; this is reconstructed from that. Statistics count only steps in which a task was active.
    """

    about = About(
        formula="UW, its weights scaled by the ratio of a fast and a slow running mean of L̄_t, mean 1",
        source="Chen et al., UMT-Net, IEEE T-IV 2024 (abstract)",
        cost="one scalar and two running means per task",
        departs="reconstructed: the formula is not public",
    )

    short: int = field(default=10, validator=validators.ge(1), metadata=help("steps that the fast mean looks back"))
    long: int = field(default=1000, validator=validators.ge(1), metadata=help("steps that the slow mean looks back"))

    @hookimpl
    def setup(self, name: str, tasks: Tasks, places: Mapping[str, str]) -> None:
        self._make_sigma(name, places, len(tasks))
        self.fast = nn.Buffer(torch.zeros(len(tasks)))
        self.slow = nn.Buffer(torch.zeros(len(tasks)))
        self.count = nn.Buffer(torch.zeros(len(tasks)))

    @hookimpl
    def combine_losses(self, losses: Tensor, means: Tensor, active: Tensor, step: Step) -> Tensor:
        assert self.log_sigma is not None
        self._note(means.detach(), usable(means, active))
        paces = _relative_paces(self.fast, self.slow, self.count > 0)
        log_per_task(step, "pace", paces, active)
        log_per_task(step, "sigma", self.log_sigma.exp(), active)
        log_per_task(step, "weight", paces * (-2 * self.log_sigma).exp() / 2, active)
        terms = uncertainty_terms(present(losses, active), shares(losses, means, active), self.log_sigma)
        return (paces * terms).sum()

    def _note(self, means: Tensor, counted: Tensor) -> None:
        """Add one step to both running means: plain means until they are full, exponential ones from then on."""
        self.count.add_(counted)
        for mean, length in ((self.fast, self.short), (self.slow, self.long)):
            mean.add_(present((means - mean) / self.count.clamp(1, length), counted))


def _relative_paces(fast: Tensor, slow: Tensor, seen: Tensor) -> Tensor:
    """a_t = ρ_t / mean ρ with ρ_t = fast mean / slow mean of L̄_t; the mean goes over the tasks seen so far.

    :param fast: (K,)
    :param slow: (K,)
    :param seen: bool (K,)
    :return: (K,), mean 1; 1 for a task that was not seen
    """
    ones = torch.ones_like(slow)
    ratios = torch.where(seen & (slow > 0), fast / slow, ones)
    mean = present(ratios, seen).sum() / seen.sum().clamp(min=1)
    return torch.where(seen & (mean > 0), ratios / mean, ones)
