"""What an epoch leaves: averages of what steps logged, and which epoch was the best."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mtl_core.errors import MtlError, nearest
from mtl_core.experiment import Experiment
from mtl_core.tasks.tasks import Tasks
from mtl_core.training.evaluation import directions, metric_names
from mtl_core.training.losses import summed


class EpochMeans:
    """Means over an epoch's steps, kept on the device until the epoch ends.

    A value that is not finite is left out of its mean. However many values a step logs, they are added as one vector:
    steps that log the same names share a table of sums and counts, (2, names).
    """

    def __init__(self, device: torch.device, group: dist.ProcessGroup | None = None) -> None:
        self.device = device
        self.group = group
        self.tables: dict[tuple[str, ...], Tensor] = {}
        self.skipped = torch.zeros((), device=device)

    def add(self, values: dict[str, Tensor], skipped: Tensor | None = None) -> None:
        """Note what a step logged, and whether its optimizer step was skipped."""
        names = tuple(values)
        if names not in self.tables:
            self.tables[names] = torch.zeros(2, len(names), device=self.device)
        # one vector for all values: an addition for each would launch hundreds of small kernels
        row = torch.stack([value.detach().to(self.skipped) for value in values.values()])
        # sums of what is finite, and how many were
        self.tables[names] += torch.stack((row.nan_to_num(0, 0, 0), row.isfinite()))
        if skipped is not None:
            self.skipped += skipped

    def take(self) -> dict[str, float]:
        """The epoch's means over all ranks, and a fresh start.

        A name that some ranks did not log is averaged over those that did.
        """
        places = {name: k for k, name in enumerate(self._names())}
        table = torch.zeros(2, len(places) + 1, device=self.device)
        for names, own in self.tables.items():
            table[:, [places[name] for name in names]] += own
        # one more column: the ranks exchange everything in one message
        table[0, -1] = self.skipped
        sums, counts = summed(table, self.group).tolist()
        means = {n: sums[k] / counts[k] if counts[k] else math.nan for n, k in places.items()}
        ranks = 1 if self.group is None else dist.get_world_size(self.group)
        self.tables = {}
        self.skipped = torch.zeros_like(self.skipped)
        return means | {"skipped_steps": sums[-1] / ranks}

    def _names(self) -> list[str]:
        """Every name that a rank logged, in one order: columns of tables that are summed must mean the same."""
        own = {name for names in self.tables for name in names}
        return sorted(own.union(*gathered(sorted(own), self.group)))

    def state_dict(self) -> dict[str, Any]:
        """This rank's sums, as they are in the middle of an epoch."""
        tables = [(list(names), own.cpu()) for names, own in self.tables.items()]
        return {"tables": tables, "skipped": self.skipped.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tables = {tuple(names): own.to(self.device) for names, own in state["tables"]}
        self.skipped = state["skipped"].to(self.device)


def gathered(value: Any, group: dist.ProcessGroup | None) -> list[Any]:
    """A small value of every rank, in their order; waits for the device."""
    if group is None:
        return [value]
    found = [None] * dist.get_world_size(group)
    dist.all_gather_object(found, value, group=group)
    return found


class BestEpoch:
    """Which epoch was best, on validation data.

    By ``best_on`` where it is given; else by the mean relative change of every task's headline metric against the
    run's first epoch. Without validation data the last epoch counts as best.
    """

    def __init__(self, tasks: Tasks, experiment: Experiment) -> None:
        self.headlines = {f"val/{t.name}/{t.headline}": t.higher_is_better for t in tasks}
        self.on = experiment.best_on
        known = metric_names(tasks)
        if self.on is not None and self.on not in known:
            raise MtlError(
                f"best_on: there is no metric {self.on!r}{nearest(self.on, known)} (there are: {', '.join(known)})"
            )
        if self.on is not None and not experiment.validation:
            raise MtlError(f"best_on = {self.on!r} needs validation data; set validation above 0, or leave best_on out")
        self.on_higher = self.on is None or directions(tasks, [self.on])[self.on]
        self.first: dict[str, float] = {}
        self.best = -math.inf

    def better(self, record: dict[str, float]) -> bool:
        score = self.score(record)
        if score is None or score > self.best:
            self.best = self.best if score is None else score
            return True
        return False

    def score(self, record: dict[str, float]) -> float | None:
        """Higher is better; None where there is nothing to compare."""
        if self.on is not None:
            value = record[f"val/{self.on}"]
            return value if self.on_higher else -value
        found = {n: record[n] for n in self.headlines if math.isfinite(record.get(n, math.nan))}
        # of a metric that the first epoch did not have, the first value that there is
        self.first = {**found, **self.first}
        changes = [
            (value - self.first[n]) / max(abs(self.first[n]), 1e-9) * (1 if self.headlines[n] else -1)
            for n, value in found.items()
        ]
        return sum(changes) / len(changes) if changes else None

    def state_dict(self) -> dict[str, Any]:
        return {"first": dict(self.first), "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.first = dict(state["first"])
        self.best = state["best"]
