"""Runs compared with a reference: Δ% per task and in the mean, over seeds. Imports no torch.

Δ% = (100/K) Σ_t (−1)^{l_t} (M_t − M_t^ref) / M_t^ref on one metric per task, l_t = 1 where lower is better (Maninis et
al., CVPR 2019; Nishi et al., CVPR 2024, Sec. 4.1).
"""

from __future__ import annotations

import json
import logging
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from rich.markup import escape
from rich.table import Table

from mtl_core import CheckpointError, RunFolder, plain_json
from mtl_suite.comparable import check_comparable, check_metrics, check_seeds, check_settings, same_twice
from mtl_suite.labels import Labels, labelled
from mtl_suite.result import MISSING, Result, Spread, best_of, with_unit

_log = logging.getLogger("mtl")


@attrs.frozen
class Row:
    """The runs of one name.

    :param values: metric → its value of each seed, in the order of ``seeds``; NaN where a run has none
    :param levels: where their gradients were compared, features or parameters; none where nothing compares them
    """

    name: str
    seeds: tuple[int, ...]
    metrics: dict[str, Spread]
    per_task: dict[str, Spread]
    delta: Spread
    levels: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()
    values: dict[str, tuple[float, ...]] = attrs.field(factory=dict)

    @property
    def real_folders(self) -> set[Path]:
        """The folders, each by one name."""
        return {folder.resolve() for folder in self.folders}


@attrs.frozen
class Comparison:
    """Rows of a table, and the metrics that Δ% uses (metric → whether higher is better).

    :param base: the reference
    :param units: metric → its unit, of those that have one
    :param directions: every metric → whether higher is better
    """

    reference: str
    rows: tuple[Row, ...]
    headline: dict[str, bool]
    base: Row
    units: dict[str, str] = attrs.field(factory=dict)
    directions: dict[str, bool] = attrs.field(factory=dict)

    @property
    def columns(self) -> tuple[Row, ...]:
        """The reference, and the rows that are not among its runs."""
        own = self.base.real_folders
        return self.base, *(row for row in self.rows if not row.real_folders <= own)

    def to_json(self) -> dict[str, Any]:
        base = _row_json(self.base)
        return {
            "reference": self.reference,
            "reference_seeds": base["seeds"],
            "reference_metrics": base["metrics"],
            "runs": [_row_json(row) for row in self.rows],
        }


def _row_json(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = plain_json(
        {
            "name": row.name,
            "seeds": list(row.seeds),
            "levels": list(row.levels),
            "delta_percent": row.delta[0],
            "delta_percent_sd": row.delta[1],
            "per_task": {task: mean for task, (mean, _) in row.per_task.items()},
            "metrics": {name: list(spread) for name, spread in row.metrics.items()},
        }
    )
    return found


_KINDS: dict[str, type] = {
    "name": str, "seed": int, "split": str, "checkpoint": str, "headline": dict, "units": dict, "directions": dict,
}  # fmt: skip
"""Types of what is compared by, and shown."""


def read_result(folder: Path) -> Result:
    """A finished run's results.

    :raises CheckpointError: the folder holds no run, or one that was not evaluated
    """
    run = RunFolder(folder).require()
    if not run.results.is_file():
        raise CheckpointError(
            f"{folder}: no results.json: the run is not finished; `mtl train … --resume` goes on with it, and"
            f" `mtl evaluate {folder}` evaluates what there is"
        )
    try:
        record = json.loads(run.results.read_text(encoding="utf-8"))
        if problems := record.get("problems"):
            _log.warning("%s: the numbers of this run cannot be used: %s", folder, "; ".join(problems))
        return _from_record(folder, record)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{run.results}: not the results of a run ({type(error).__name__}: {error});"
            f" `mtl evaluate {folder}` writes it again"
        ) from error


def _from_record(folder: Path, record: Mapping[str, Any]) -> Result:
    metrics = {name: math.nan if value is None else float(value) for name, value in record["metrics"].items()}
    lacking = record["headline"].keys() - metrics.keys()
    if lacking:
        raise ValueError(f"no value of {', '.join(sorted(lacking))}")
    counts_for = tuple(record.get("counts_for", ()))
    for key, kind in _KINDS.items():
        if not isinstance(record.get(key, kind()), kind):
            raise TypeError(f"{key} is a {type(record[key]).__name__}")
    return Result(
        folder, record["name"], record["seed"], record["split"], metrics, record["headline"], counts_for,
        record.get("level"), record.get("checkpoint", "last"), record.get("units", {}), record.get("directions", {}),
    )  # fmt: skip


def read_results(folders: Sequence[Path]) -> list[Result]:
    """The results of runs; runs of one name and seed that count for different tasks become one.

    :param folders: of runs, or of sets of runs (a folder of run folders)
    """
    return _joined(_read_each(folders))


def _read_each(folders: Sequence[Path], labels: Labels | None = None) -> list[Result]:
    """The results of every run, under the names that the table gives them."""
    found = []
    for folder in folders:
        found += [labelled(read_result(run), labels or {}) for run in _members(folder)]
    return found


def _joined(found: Sequence[Result]) -> list[Result]:
    """Runs of one name and seed that count for different tasks become one result."""
    whole = [result for result in found if not result.counts_for]
    parts: dict[tuple[str, int], list[Result]] = {}
    for result in found:
        if result.counts_for:
            parts.setdefault((result.name, result.seed), []).append(result)
    return whole + [_one_of_parts(group) for group in parts.values()]


def with_headline(result: Result, metrics: Sequence[str]) -> Result:
    """The result with other metrics as those that Δ% uses.

    :param metrics: task/metric; a task's first counts, a task of which there is none keeps its own
    :raises CheckpointError: the run has no value of one of them
    """
    chosen = {metric.partition("/")[0]: metric for metric in reversed(metrics)}
    headline: dict[str, bool] = {}
    for own, higher in result.headline.items():
        metric = chosen.get(own.partition("/")[0], own)
        headline[metric] = higher if metric == own else result.better_when_higher(metric)
    if lacking := headline.keys() - result.metrics.keys():
        raise CheckpointError(
            f"{result.folder}: no value of {', '.join(sorted(lacking))}; it has {', '.join(sorted(result.metrics))}"
        )
    return attrs.evolve(result, headline=headline)


def _members(folder: Path) -> list[Path]:
    """A run's folder itself, or those of the runs directly in it."""
    if RunFolder(folder).experiment.is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob("*/experiment.toml")) or [folder]


def _one_of_parts(group: Sequence[Result]) -> Result:
    """One result of runs that each give some tasks' metrics: single-task runs, or each task in turn as primary."""
    metrics: dict[str, float] = {}
    headline: dict[str, bool] = {}
    by_task: dict[str, Path] = {}
    for result in group:
        for task in result.counts_for:
            before = by_task.setdefault(task, result.folder)
            if before != result.folder:
                raise same_twice(result, before)
        own = {n: v for n, v in result.metrics.items() if n.split("/")[0] in result.counts_for}
        metrics |= own
        headline |= {n: higher for n, higher in result.headline.items() if n in own}
    return attrs.evolve(group[0], metrics=metrics, headline=headline, counts_for=tuple(by_task))


def compare(
    reference: Sequence[Path], runs: Sequence[Path], metrics: Sequence[str] = (), labels: Labels | None = None
) -> Comparison:
    """Compare runs with a reference, the mean over its seeds.

    :param reference: run folders, the seeds of one experiment
    :param runs: run folders; those of one name become one row
    :param metrics: ``task/metric`` that Δ% uses in place of the task's own, such as ``depth/rmse``
    :param labels: run folder → its name in the table, in place of the run's own
    :raises CheckpointError: a run is not finished, has other tasks or another evaluation than the reference, has the
        name of a run with other settings, or no value of one of the metrics
    :raises MtlError: a metric is of no task of the runs
    """
    base = _read_each(reference, labels)
    found = _read_each(runs, labels)
    check_settings([*base, *found])
    check_metrics(metrics, [*base, *found])
    return compare_results(
        [with_headline(result, metrics) for result in _joined(base)],
        [with_headline(result, metrics) for result in _joined(found)],
    )


def compare_results(base: Sequence[Result], found: Sequence[Result]) -> Comparison:
    """:func:`compare` for results that were read already."""
    for result in (*base, *found):
        check_comparable(base[0], result)
    check_seeds(found)
    values = values_of(base)
    means = {name: statistics.fmean(values[name]) for name in base[0].headline}
    rows = tuple(_row(results, means) for results in _by_name(found).values())
    units: dict[str, str] = {}
    directions: dict[str, bool] = {}
    for result in (*base, *found):
        units |= result.units
        directions |= result.all_directions
    return Comparison(base[0].name, rows, base[0].headline, _row(base, means), units, directions)


def _by_name(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of each name, which are seeds of one experiment."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.name, []).append(result)
    return found


def with_its_seeds(reference: Path, runs: Sequence[Path], labels: Labels | None = None) -> list[Path]:
    """The reference and those of the runs that are other seeds of it."""
    own = _read_each([reference], labels)
    known = {_identity(result) for result in own}
    found = [reference]
    for other in _read_each(runs, labels):
        if other.name == own[0].name and _identity(other) not in known:
            known.add(_identity(other))
            found.append(other.folder)
    return found


def _identity(result: Result) -> tuple[int, tuple[str, ...]]:
    """What distinguishes the runs of one name."""
    return result.seed, result.counts_for


def _row(results: Sequence[Result], reference: Mapping[str, float]) -> Row:
    headline = results[0].headline
    values = values_of(results)
    changes = [_changes_of(result, reference) for result in results]
    return Row(
        name=results[0].name,
        seeds=tuple(result.seed for result in results),
        metrics={name: spread(found) for name, found in values.items()},
        per_task={name.split("/")[0]: spread([own[name] for own in changes]) for name in headline},
        delta=spread([statistics.fmean(own.values()) for own in changes]),
        levels=tuple(sorted({result.level for result in results if result.level is not None})),
        folders=tuple(result.folder for result in results),
        values=values,
    )


def values_of(results: Sequence[Result]) -> dict[str, tuple[float, ...]]:
    """Metric → its value in each of the results, NaN where one has none."""
    found: dict[str, tuple[float, ...]] = {}
    for name in all_metrics(results):
        found[name] = tuple(result.metrics.get(name, math.nan) for result in results)
    return found


def all_metrics(having: Iterable[Result | Row]) -> list[str]:
    """The metrics that any of the results or rows has."""
    found: dict[str, None] = {}
    for one in having:
        found |= dict.fromkeys(one.metrics)
    return list(found)


def _changes_of(result: Result, reference: Mapping[str, float]) -> dict[str, float]:
    """Main metric of each task → relative change in per cent."""
    return {name: _change(result.metrics[name], reference[name], higher) for name, higher in result.headline.items()}


def _change(value: float, reference: float, higher_is_better: bool) -> float:
    """Relative change in per cent, positive where it is better; NaN where the reference is 0."""
    relative = 100 * (value - reference) / reference if reference else math.nan
    return relative if higher_is_better else -relative


def spread(values: Sequence[float]) -> Spread:
    if not all(map(math.isfinite, values)):  # statistics.stdev fails on them
        return math.nan, None if len(values) == 1 else math.nan
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def shown(value: Spread, form: str = "z.4g") -> str:
    """Mean ± deviation; a mean that rounds to 0 has no sign (``z``), and a deviation no exponent."""
    mean, deviation = value
    if math.isnan(mean):
        return "–"
    if deviation is None:
        return f"{mean:{form}}"
    return f"{mean:{form}} ± {deviation:{'.0f' if deviation >= 99.5 else '.2g'}}"


def level_note(row: Row | None, rows: Iterable[Row | None]) -> str:
    """Where a row's gradients were compared, if the table's rows differ in it."""
    levels: set[str] = set()
    for other in rows:
        levels.update(other.levels if other is not None else ())
    if len(levels) < 2 or row is None:
        return ""
    return f" (gradients at the {' and '.join(row.levels)})" if row.levels else ""


def table(comparison: Comparison) -> Table:
    """Every metric and Δ%; the reference and the runs are columns, the best of each headline metric is bold."""
    made = Table(title=f"Δ% against {escape(comparison.reference)}", title_justify="left")
    columns = comparison.columns
    made.add_column("metric")
    for row in columns:
        seeds = f" ({len(row.seeds)} seeds)" if len(row.seeds) > 1 else ""
        made.add_column(escape(row.name) + seeds + level_note(row, columns), justify="right", overflow="fold")
    for name in all_metrics(columns):
        made.add_row(_heading(comparison, name), *_cells(comparison, name))
    made.add_section()
    for task in comparison.base.per_task:
        made.add_row(f"Δ% {task}", *(shown(row.per_task[task], "+z.2f") for row in columns))
    made.add_row("[bold]Δ%", *(f"[bold]{shown(row.delta, '+.2f')}" for row in columns))
    return made


def _heading(comparison: Comparison, name: str) -> str:
    """A metric with its unit, and which way is better where Δ% uses it."""
    return with_unit(name, comparison.units.get(name)) + arrow(comparison.headline.get(name))


def _cells(comparison: Comparison, name: str) -> list[str]:
    """One metric of every column, the best in bold."""
    spreads = [row.metrics.get(name, MISSING) for row in comparison.columns]
    best = best_of([mean for mean, _ in spreads], comparison.headline.get(name))
    return [("[bold]" if spread[0] == best else "") + shown(spread) for spread in spreads]


def arrow(higher_is_better: bool | None) -> str:
    """What follows a metric's name; nothing where it is unknown which way is better."""
    return {True: " ↑", False: " ↓", None: ""}[higher_is_better]
