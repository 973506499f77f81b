"""IAL's Tab. VII of finished runs: accuracies of domains, and their mean over all twenty. Imports no torch."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from mtl_cifar100.domains import DOMAINS
from mtl_core import CheckpointError

HARDEST = ("people", "aquatic_mammals", "small_mammals", "trees", "reptiles")
"""The columns of the paper's table."""

_Cell = tuple[float, float | None] | None
"""Mean and deviation over seeds (None for one seed); None where a seed has no value."""


@attrs.frozen
class Row:
    """The runs of one name.

    :param seeds: one entry for each, domain → accuracy in per cent
    """

    name: str
    seeds: tuple[Mapping[str, float], ...]

    def domain(self, name: str) -> _Cell:
        return _over_seeds([seed.get(name) for seed in self.seeds])

    @property
    def mean(self) -> _Cell:
        """The mean over all twenty domains, of each seed."""
        return _over_seeds([_mean_of(seed) for seed in self.seeds])

    @property
    def domains(self) -> int:
        """How many domains every seed has."""
        return sum(self.domain(name) is not None for name in DOMAINS)


def _mean_of(seed: Mapping[str, float]) -> float | None:
    return statistics.fmean(seed[name] for name in DOMAINS) if all(name in seed for name in DOMAINS) else None


def _over_seeds(values: Sequence[float | None]) -> _Cell:
    known = [value for value in values if value is not None]
    if not values or len(known) < len(values):
        return None
    return statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None


def rows(folders: Sequence[Path]) -> list[Row]:
    """The rows of every finished run in or below some folders; the parts of a set of runs are put together.

    :raises CheckpointError: a folder has no results of CIFAR-100's domains, or two runs give one domain of a row
    """
    found: dict[str, dict[int, dict[str, float]]] = {}
    for path in (path for folder in folders for path in _results_in(folder)):
        record = json.loads(path.read_text("utf-8"))
        seed = found.setdefault(record["name"], {}).setdefault(record["seed"], {})
        own = _accuracies(record)
        if twice := own.keys() & seed.keys():
            raise CheckpointError(
                f'{path.parent}: a second result of {min(twice)} for "{record["name"]}", seed {record["seed"]};'
                " give each run once"
            )
        seed |= own
    return [Row(name, tuple(seeds[seed] for seed in sorted(seeds))) for name, seeds in found.items()]


def _results_in(folder: Path) -> Iterator[Path]:
    found = [path for path in sorted(folder.rglob("results.json")) if _is_ours(path)]
    if not found:
        raise CheckpointError(f"{folder}: no finished run of CIFAR-100's domains in or below it (no results.json)")
    yield from found


def _is_ours(path: Path) -> bool:
    metrics: Mapping[str, Any] = json.loads(path.read_text("utf-8"))["metrics"]
    return any(f"{name}/top1" in metrics for name in DOMAINS)


def _accuracies(record: Mapping[str, Any]) -> dict[str, float]:
    """Domain → accuracy of one run, of the tasks that it counts for."""
    counts = record.get("counts_for") or DOMAINS
    values = {name: record["metrics"].get(f"{name}/top1") for name in DOMAINS if name in counts}
    return {name: value for name, value in values.items() if value is not None}


def shown(cell: _Cell) -> str:
    if cell is None:
        return "–"
    mean, deviation = cell
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"
