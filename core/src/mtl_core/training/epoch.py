"""Means over an epoch's steps, and the choice of the best epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mtl_core.errors import MtlError, nearest
from mtl_core.experiment import Experiment
from mtl_core.tasks.precision import constant
from mtl_core.tasks.tasks import Tasks
from mtl_core.training.evaluation import directions, metric_names
from mtl_core.training.losses import summed

_NEAR_ZERO = 0.1
"""A first value below this share of the largest one is no measure: a relative change to it would count alone."""


_TOGETHER = 32
"""Steps that are added to an epoch's sums at once."""


class EpochMeans:
    """Means over an epoch's steps, kept on the device until the epoch ends.

    A value that is not finite is left out of its mean. However many values a step logs, they are kept as one vector.
    Steps that log the same names share a table of sums and counts, (2, names), to which they are added a number of
    them at a time: a step itself launches one kernel for all of its values.
    """

    def __init__(self, device: torch.device, group: dist.ProcessGroup | None = None) -> None:
        self.device = device
        self.group = group
        self.tables: dict[tuple[str, ...], Tensor] = {}
        self.skipped = torch.zeros((), device=device)
        self._rows: dict[tuple[str, ...], list[Tensor]] = {}
        """What steps logged that is not in the tables yet: (names + 1,), the last entry 1 for a skipped step."""

    def add(self, values: dict[str, Tensor], skipped: Tensor | None = None) -> None:
        """Note what a step logged, and whether its optimizer step was skipped."""
        names = tuple(values)
        noted = [*values.values(), constant(0.0, self.device) if skipped is None else skipped]
        rows = self._rows.setdefault(names, [])
        rows.append(torch.stack([value.detach().to(self.skipped) for value in noted]))
        if len(rows) == _TOGETHER:
            self._add_up(names)

    def _add_up(self, names: tuple[str, ...]) -> None:
        """Move the rows of these names into their table."""
        rows = torch.stack(self._rows.pop(names))
        logged = rows[:, :-1]
        # sums of what is finite, and how many were
        table = torch.stack((logged.nan_to_num(0, 0, 0).sum(0), logged.isfinite().sum(0)))
        self.tables[names] = self.tables[names] + table if names in self.tables else table
        self.skipped = self.skipped + rows[:, -1].sum()

    def _copy(self) -> EpochMeans:
        copy = EpochMeans(self.device, self.group)
        copy.tables = dict(self.tables)
        copy.skipped = self.skipped
        copy._rows = {names: list(rows) for names, rows in self._rows.items()}
        return copy

    def so_far(self) -> dict[str, float]:
        """This rank's means of the epoch that is under way; waits for the device."""
        found: dict[str, tuple[float, float]] = {}
        # of a copy: which steps are added up together must not depend on who looks at them
        for names, own in self._copy()._all_tables().items():
            for name, total, count in zip(names, *own.tolist(), strict=True):
                before = found.get(name, (0.0, 0.0))
                found[name] = (before[0] + total, before[1] + count)
        return {name: total / count for name, (total, count) in found.items() if count}

    def _all_tables(self) -> dict[tuple[str, ...], Tensor]:
        """The tables, with every step in them."""
        for names in list(self._rows):
            self._add_up(names)
        return self.tables

    def take(self) -> dict[str, float]:
        """The epoch's means over all ranks, and a fresh start.

        A name that some ranks did not log is averaged over those that did.
        """
        own_tables = self._all_tables()
        places = {name: k for k, name in enumerate(self._names())}
        table = torch.zeros(2, len(places) + 1, device=self.device)
        for names, own in own_tables.items():
            table[:, [places[name] for name in names]] += own
        # one more column: the ranks exchange everything in one message
        table[0, -1] = self.skipped
        sums, counts = summed(table, self.group).tolist()
        means = {n: sums[k] / counts[k] if counts[k] else math.nan for n, k in places.items()}
        ranks = 1 if self.group is None else dist.get_world_size(self.group)
        self.tables = {}
        self.skipped = torch.zeros_like(self.skipped)
        # DDP gives every rank the same gradients, so all of them skip the same steps
        return means | {"skipped_steps": sums[-1] / ranks}

    def _names(self) -> list[str]:
        """Every name that a rank logged, in one order: columns of tables that are summed must mean the same."""
        own = {name for names in self.tables for name in names}
        return sorted(own.union(*gathered(sorted(own), self.group)))

    def state_dict(self) -> dict[str, Any]:
        """This rank's sums, as they are in the middle of an epoch; rows stay rows, so that a resumed run adds alike."""
        tables = [(list(names), own.cpu()) for names, own in self.tables.items()]
        rows = [(list(names), torch.stack(own).cpu()) for names, own in self._rows.items()]
        return {"tables": tables, "skipped": self.skipped.cpu(), "rows": rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tables = {tuple(names): own.to(self.device) for names, own in state["tables"]}
        self.skipped = state["skipped"].to(self.device)
        # checkpoints of earlier versions have none
        self._rows = {tuple(names): list(own.to(self.device).unbind()) for names, own in state.get("rows", [])}


def gathered(value: Any, group: dist.ProcessGroup | None) -> list[Any]:
    """A small value of every rank, in their order; waits for the device."""
    if group is None:
        return [value]
    found = [None] * dist.get_world_size(group)
    dist.all_gather_object(found, value, group=group)
    return found


class BestEpoch:
    """Which epoch was best, on validation data.

    By ``best_on`` where it is given. Else by the mean over tasks of the relative change of the headline metric, against
    the run's first epoch; a metric that began near 0 is measured by the largest value that it had. An epoch in which
    fewer metrics are finite than in the best one is never better: a NaN does not drop out of the mean. Without
    validation data the last epoch counts as best.
    """

    def __init__(self, tasks: Tasks, experiment: Experiment) -> None:
        self.metrics = {f"val/{t.name}/{t.main_metric}": t.main_is_higher for t in tasks}
        on = experiment.best_on
        known = metric_names(tasks)
        if on is not None and on not in known:
            raise MtlError(f"best_on: there is no metric {on!r}{nearest(on, known)} (there are: {', '.join(known)})")
        if on is not None and not experiment.validation:
            raise MtlError(f"best_on = {on!r} needs validation data; set validation above 0, or leave best_on out")
        if on is not None:
            self.metrics = {f"val/{on}": directions(tasks, [on])[on]}
        self.needs_value = on is not None
        self.first: dict[str, float] = {}
        self.largest: dict[str, float] = {}
        self.best: dict[str, float] | None = None

    def better(self, record: Mapping[str, float]) -> bool:
        """Whether an epoch is the best so far; it is remembered then."""
        values = {n: record[n] for n in self.metrics if math.isfinite(record.get(n, math.nan))}
        # of a metric that the first epoch did not have, the first value that there is
        self.first = {**values, **self.first}
        self.largest |= {n: max(abs(value), self.largest.get(n, 0.0)) for n, value in values.items()}
        if not self._is_better(values):
            return False
        self.best = values
        return True

    def _is_better(self, values: Mapping[str, float]) -> bool:
        if not values:
            # without validation data there is never a value, and the last epoch counts as best
            return not self.needs_value and not self.best
        if self.best is None or len(values) != len(self.best):
            return self.best is None or len(values) > len(self.best)
        return sum(self._change(n, self.best[n], value) for n, value in values.items() if n in self.best) > 0

    def _change(self, name: str, before: float, after: float) -> float:
        """Relative change of a metric, above 0 where it became better."""
        first = abs(self.first[name])
        largest = self.largest[name]
        scale = first if first > _NEAR_ZERO * largest else largest or 1.0
        return (after - before) / scale * (1 if self.metrics[name] else -1)

    def state_dict(self) -> dict[str, Any]:
        best = None if self.best is None else dict(self.best)
        return {"first": dict(self.first), "largest": dict(self.largest), "best": best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.first = dict(state["first"])
        self.largest = dict(state["largest"])
        self.best = state["best"]
