"""Fixed weights for the tasks' losses.

Shape letters: K tasks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from attrs import field, validators
from torch import Tensor, nn

from mtl_core import About, MtlError, Tasks, help, hookimpl, nearest, plugin
from mtl_weighting.rules import weighted_sum


def _is_weight(instance: object, attribute: object, value: float) -> None:
    """A validator."""
    if not 0 <= value < math.inf:
        raise ValueError(f"expected a weight of at least 0, found {value}")


@plugin
class FixedWeights(nn.Module):
    """Fixed weights: Σ w_t L_t, with every w_t given.

    Either every task is named in ``weights``, or there is a primary task: it has weight 1, even where ``weights`` names
    it, so that each task can be primary in turn with the same settings; others that ``weights`` does not name have
    ``auxiliary`` ("Fixed" in Tab. IX of Li et al., "Unprejudiced Training Auxiliary Tasks Makes Primary Better").
    """

    about = About(
        formula="Σ w_t L_t with given w_t",
        source='common practice; "Fixed" and "Grid Search" of Li et al. (IAL), Tab. VIII and IX',
        cost="nothing",
        departs="nowhere",
    )

    weights: dict[str, float] = field(
        factory=dict,
        validator=validators.deep_mapping(validators.instance_of(str), _is_weight),
        metadata=help("task → weight"),
    )
    primary: str | tuple[str, ...] | None = field(
        default=None, metadata=help('the task, or tasks, of weight 1, whatever `weights` says; "none": there is none')
    )
    auxiliary: float = field(
        default=0.1, validator=_is_weight, metadata=help("weight of the other tasks, where there is a primary one")
    )

    @hookimpl
    def setup(self, name: str, tasks: Tasks) -> None:
        _check_known(f"{name}.weights", self.weights, tasks)
        _check_known(f"{name}.primary", self._primary_names, tasks)
        missing = [task for task in tasks.names if task not in self.weights]
        if missing and not self._primary_names:
            raise MtlError(f"{name}.weights: no weight for {', '.join(missing)}; name every task, or set `primary`")
        self.chosen = nn.Buffer(torch.tensor([self._weight_of(task) for task in tasks.names]), persistent=False)

    @property
    def _primary_names(self) -> tuple[str, ...]:
        return (self.primary,) if isinstance(self.primary, str) else self.primary or ()

    def _weight_of(self, task: str) -> float:
        return 1.0 if task in self._primary_names else self.weights.get(task, self.auxiliary)

    @hookimpl
    def combine_losses(self, losses: Tensor, active: Tensor) -> Tensor:
        return weighted_sum(losses, self.chosen, active)


def _check_known(where: str, given: Iterable[str], tasks: Tasks) -> None:
    for task in given:
        if task not in tasks.names:
            raise MtlError(
                f"{where}: the run has no task {task!r}{nearest(task, tasks.names)}"
                f" (its tasks: {', '.join(tasks.names)})"
            )
