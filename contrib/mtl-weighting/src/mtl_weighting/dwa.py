"""DWA: weights by how fast each task's loss fell over the last two epochs.

Shape letters: K tasks.
"""

from __future__ import annotations

import torch
from attrs import field, validators
from torch import Tensor, nn

from mtl_core import About, Step, Tasks, help, hookimpl, plugin
from mtl_weighting.rules import log_per_task, present, usable, weighted_sum


@plugin
class DWA(nn.Module):
    """DWA: Σ w_t L_t, more weight for tasks whose loss falls more slowly than the others'.

    Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, Eq. 7. A task's mean over an epoch
    is taken over the steps in which it was active.
    """

    about = About(
        formula="Σ w_t L_t, w = K · softmax(r/T), r_t = L_t(e − 1)/L_t(e − 2)",
        source="Liu, Johns, Davison, CVPR 2019, Eq. 7",
        cost="a few numbers per task",
        departs=(
            "missing labels: an epoch's mean counts only steps in which the task was active; r_t is 1 while two "
            "epochs are not known"
        ),
    )

    temperature: float = field(
        default=2.0, validator=validators.gt(0), metadata=help("T; the larger, the more equal the weights")
    )

    @hookimpl
    def setup(self, tasks: Tasks) -> None:
        self.sums = nn.Buffer(torch.zeros(len(tasks)))
        self.counts = nn.Buffer(torch.zeros(len(tasks)))
        self.history = nn.Buffer(torch.full((2, len(tasks)), torch.nan))

    @hookimpl
    def combine_losses(self, losses: Tensor, means: Tensor, active: Tensor, step: Step) -> Tensor:
        counted = usable(means, active)
        self.sums.add_(present(means.detach(), counted))
        self.counts.add_(counted)
        weights = _average_weights(self.history, self.temperature)
        log_per_task(step, "weight", weights, active)
        return weighted_sum(losses, weights, active)

    @hookimpl
    def after_epoch(self) -> None:
        average = self.sums / self.counts  # NaN where a task had no label
        self.history.copy_(torch.stack((self.history[1], average)))
        self.sums.zero_()
        self.counts.zero_()


def _average_weights(history: Tensor, temperature: float) -> Tensor:
    """w_t = K softmax(r_t / T) with r_t = L_t(e − 1) / L_t(e − 2), Eq. 7.

    :param history: the mean losses of epochs e − 2 and e − 1, (2, K); NaN where there is none, and r_t is 1
    :return: (K,), Σw = K
    """
    ratios = history[1] / history[0]
    ratios = torch.where(ratios.isfinite(), ratios, torch.ones_like(ratios))
    return len(ratios) * (ratios / temperature).softmax(0)
