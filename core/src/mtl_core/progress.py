"""What an epoch leaves: averages of what steps logged, and which epoch was the best."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mtl_core.compare import higher_is_better
from mtl_core.errors import MtlError, nearest
from mtl_core.evaluation import metric_names
from mtl_core.experiment import Experiment
from mtl_core.losses import summed
from mtl_core.tasks import Tasks


class Averages:
    """Means over an epoch's steps, kept on the device until the epoch ends.

    A task's loss is averaged over the steps in which the task was active. A value that is not finite is left out of
    its mean.
    """

    def __init__(self, device: torch.device, group: dist.ProcessGroup | None = None) -> None:
        self.device, self.group = device, group
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}
        self.skipped = torch.zeros((), device=device)

    def add(self, values: dict[str, Tensor], skipped: Tensor | None = None) -> None:
        """Note what a step logged, and whether its optimizer step was skipped."""
        for name, value in values.items():
            active = values.get(name.replace("train/loss/", "train/active/")) if "/loss/" in name else None
            self.add_one(name, value.detach().float(), active)
        if skipped is not None:
            self.skipped += skipped

    def add_one(self, name: str, value: Tensor, active: Tensor | None) -> None:
        if name not in self.sums:
            self.sums[name], self.counts[name] = torch.zeros((2,), device=self.device).unbind()
            self.sums[name], self.counts[name] = self.sums[name].clone(), self.counts[name].clone()
        counts = value.isfinite() if active is None else value.isfinite() & (active > 0)
        self.sums[name] += torch.where(counts, value, torch.zeros_like(value))
        self.counts[name] += counts

    def take(self) -> dict[str, float]:
        """The epoch's means over all ranks, and a fresh start."""
        names = sorted(self.sums)
        rows = [torch.stack((self.sums[n], self.counts[n])) for n in names] + [self.skipped.expand(2)]
        table = summed(torch.stack(rows), self.group).tolist()
        means = {n: s / c if c else math.nan for n, (s, c) in zip(names, table[:-1], strict=True)}
        ranks = 1 if self.group is None else dist.get_world_size(self.group)
        self.sums, self.counts, self.skipped = {}, {}, torch.zeros_like(self.skipped)
        return means | {"skipped_steps": table[-1][0] / ranks}

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self.sums), "counts": dict(self.counts), "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums = {n: v.to(self.device) for n, v in state["sums"].items()}
        self.counts = {n: v.to(self.device) for n, v in state["counts"].items()}
        self.skipped = state["skipped"].to(self.device)


class Selection:
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
        self.first: dict[str, float] = {}
        self.best = -math.inf

    def better(self, record: dict[str, float]) -> bool:
        score = self.score(record)
        if score is None or score > self.best:
            self.best = self.best if score is None else score
            return True
        return False

    def score(self, record: dict[str, float]) -> float | None:
        """Higher is better; None where there is nothing to judge by."""
        if self.on is not None:
            value = record[f"val/{self.on}"]
            return value if higher_is_better(self.on) else -value
        found = {n: record[n] for n in self.headlines if math.isfinite(record.get(n, math.nan))}
        self.first = {**found, **self.first}
        changes = [
            (value - self.first[n]) / max(abs(self.first[n]), 1e-9) * (1 if self.headlines[n] else -1)
            for n, value in found.items()
        ]
        return sum(changes) / len(changes) if changes else None

    def state_dict(self) -> dict[str, Any]:
        return {"first": dict(self.first), "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.first, self.best = dict(state["first"]), state["best"]
