"""What the finished runs of a suite gave: rows of a table, as far as they have come. Imports no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import attrs

from mtl_core import CheckpointError, RunFolder, nearest, plain_json
from mtl_suite.compare import (
    Comparison,
    Row,
    all_metrics,
    compare_results,
    read_result,
    read_results,
    spread,
    values_of,
    with_headline,
)
from mtl_suite.jobs import Job
from mtl_suite.plan import Suite
from mtl_suite.result import MISSING, Result


@attrs.frozen
class Line:
    """One row: an experiment in a scenario, over the seeds that are finished.

    :param runs: (finished, planned)
    :param row: means and deviations; None where no seed is finished
    :param chosen: for varied experiments, what was chosen for each seed
    """

    title: str
    runs: tuple[int, int]
    row: Row | None
    has_delta: bool
    chosen: tuple[str, ...] = ()


@attrs.frozen
class Section:
    """The rows of one scenario.

    :param reference: the row that Δ% refers to, with its scenario where it is another
    :param base: metric → the mean over that row's seeds
    """

    title: str
    reference: str
    lines: tuple[Line, ...]
    base: dict[str, float] = attrs.field(factory=dict)


@attrs.frozen
class Table:
    """A suite's results.

    :param metrics: task/metric of each column → whether higher is better (None: not a metric that Δ% uses)
    :param units: metric → its unit, of those that have one
    :param directions: metric → whether higher is better, of every metric
    """

    title: str
    metrics: dict[str, bool | None]
    sections: tuple[Section, ...]
    units: dict[str, str] = attrs.field(factory=dict)
    directions: dict[str, bool] = attrs.field(factory=dict)


def collect(suite: Suite) -> Table:
    """Put together what the suite's folder holds."""
    sections = tuple(_section(suite, scenario) for scenario in suite.scenarios)
    headline: dict[str, bool] = {}
    units: dict[str, str] = {}
    directions: dict[str, bool] = {}
    for job in sorted((job for job in suite.jobs if job.done), key=_is_part):
        result = with_headline(read_result(job.folder), suite.settings.metrics)
        headline |= result.headline
        units |= result.units
        directions |= result.all_directions
    metrics: dict[str, bool | None] = {name: headline.get(name) for name in suite.settings.metrics or headline}
    return Table(suite.settings.title or suite.settings.name, metrics, sections, units, directions)


def _is_part(job: Job) -> bool:
    return bool(job.part)


def compared(comparison: Comparison) -> Table:
    """A comparison as a table of one section: the reference's row, and those of the others; every metric a column."""
    lines = tuple(Line(row.name, (len(row.seeds),) * 2, row, True) for row in comparison.columns)
    base = {name: mean for name, (mean, _) in comparison.base.metrics.items()}
    return Table(
        title=f"Compared with {comparison.reference}",
        metrics={name: comparison.headline.get(name) for name in all_metrics(comparison.columns)},
        sections=(Section("", comparison.reference, lines, base),),
        units=comparison.units,
        directions=comparison.directions,
    )


def _section(suite: Suite, scenario: str) -> Section:
    base = finished(suite, suite.scenarios[scenario].reference or scenario, suite.reference)[0]
    lines = tuple(
        line(suite, scenario, name, base)
        for name, entry in suite.entries.items()
        if not entry.only or scenario in entry.only
    )
    means = {metric: spread(values)[0] for metric, values in values_of(base).items()}
    return Section(scenario_title(suite, scenario), _reference_of(suite, scenario), lines, means)


def scenario_title(suite: Suite, scenario: str) -> str:
    return suite.scenarios[scenario].title or scenario


def _reference_of(suite: Suite, scenario: str) -> str:
    row = suite.entries[suite.reference].title or suite.reference
    other = suite.scenarios[scenario].reference
    return f"{row}, {scenario_title(suite, other)}" if other not in (None, scenario) else row


def line(suite: Suite, scenario: str, name: str, base: Sequence[Result]) -> Line:
    found, chosen = finished(suite, scenario, name)
    planned = len(suite.settings.seeds)
    title = suite.entries[name].title or name
    if not found:
        return Line(title, (0, planned), None, False)
    comparable = bool(base) and base[0].headline.items() == found[0].headline.items()
    comparison: Comparison = compare_results(base if comparable else found, found)
    return Line(title, (len(found), planned), comparison.rows[0], comparable, chosen)


def finished(suite: Suite, scenario: str, name: str) -> tuple[list[Result], tuple[str, ...]]:
    """An experiment's results, seed by seed, of the seeds all of whose parts are done; and what was chosen."""
    results = []
    chosen = []
    for seed in suite.settings.seeds:
        jobs = [job for job in suite.jobs if (job.row, job.scenario, job.seed) == (name, scenario, seed)]
        if not jobs or not all(job.done for job in jobs):
            continue
        metric = suite.entries[name].choose_on
        if metric is not None:
            jobs = [_best(jobs, metric)]
            chosen.append(jobs[0].part)
        found = read_results([job.folder for job in jobs])
        results += [with_headline(result, suite.settings.metrics) for result in found]
    return results, tuple(chosen)


def _best(jobs: Sequence[Job], metric: str) -> Job:
    """The run whose last epoch is best on validation data."""
    first = read_result(jobs[0].folder)
    higher = first.headline.get(metric, first.better_when_higher(metric))

    def score(job: Job) -> float:
        value = _validated(job, metric)
        if math.isnan(value):
            return -math.inf
        return value if higher else -value

    return max(jobs, key=score)


def _validated(job: Job, metric: str) -> float:
    """A run's last value of a validation metric, NaN where no label counted.

    :raises CheckpointError: the run has none
    """
    *_, last = RunFolder(job.folder).history() or [{}]
    if f"val/{metric}" not in last:
        known = [name.removeprefix("val/") for name in last if name.startswith("val/")]
        listed = f"it has {', '.join(known)}" if known else "it kept no validation data"
        raise CheckpointError(
            f"{job.folder}: choose_on: no validation value of {metric}{nearest(metric, known)} ({listed})"
        )
    value = last[f"val/{metric}"]
    return math.nan if value is None else float(value)


def to_json(table: Table) -> str:
    """Every figure, every seed's too, as JSON."""
    sections = []
    for section in table.sections:
        rows = [_as_plain(line) for line in section.lines]
        sections.append({"scenario": section.title, "reference": section.reference, "rows": rows})
    record = {"title": table.title, "metrics": list(table.metrics), "sections": sections}
    return json.dumps(plain_json(record), indent=2)


def _as_plain(line: Line) -> dict[str, Any]:
    found: dict[str, Any] = {"title": line.title, "runs": line.runs[0], "planned": line.runs[1]}
    if line.row is not None:
        delta = line.row.delta if line.has_delta else MISSING
        found |= {
            "seeds": list(line.row.seeds),
            "delta_percent": list(delta),
            "metrics": {name: list(value) for name, value in line.row.metrics.items()},
            "values": {name: list(values) for name, values in line.row.values.items()},
            "chosen": list(line.chosen),
            "levels": list(line.row.levels),
        }
    return found


__all__ = ["Line", "Section", "Table", "collect", "compared", "to_json"]
