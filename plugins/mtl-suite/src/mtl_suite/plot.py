"""A table as a picture: a panel for each metric, a row for each experiment, a dot for each seed. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import attrs

from mtl_core import MtlError
from mtl_suite.axis import Axis, axis_of
from mtl_suite.drawing import Box, Dot, Drawing, Line, Shape, Text, width_of
from mtl_suite.layout import (
    HEAD,
    LARGE,
    LEADING,
    MARGIN,
    NORMAL,
    SMALL,
    Layout,
    Row,
    Strip,
    common_seeds,
    layout_of,
    panel_title,
    strips,
)
from mtl_suite.results import Line as Experiment
from mtl_suite.results import Section, Table
from mtl_suite.tables import NONE_FINISHED, experiments, one_reference, seeds_of, value_of

# Okabe and Ito's blue and vermilion, which all eyes tell apart
_DOT = "#0072b2"
_BAR = "#a9cfe8"
_MEAN = "#1f2328"
_REFERENCE = "#d55e00"

_GREY = "#59636e"
_FAINT = "#e6eaee"

_RADIUS = 3.0
"""Of a seed's dot."""


def plot(table: Table) -> Drawing:
    """Every seed a dot, the mean a mark and ± one standard deviation a bar; the scenarios below each other.

    :raises MtlError: no run is finished
    """
    metrics = drawn_metrics(table)
    if not metrics:
        raise MtlError(f"{table.title}: no run is finished, so there is nothing to draw")
    layout = layout_of(table, metrics)
    found = list(strips(table, metrics, layout))
    shapes: list[Shape] = [Text(MARGIN, 28, table.title, LARGE, bold=True)]
    for strip in found:
        shapes += _strip_shapes(table, strip, layout)
    y = found[-1].bottom + 48
    shapes += _legend(table, y)
    for note in _notes(table, metrics):
        y += 16
        shapes.append(Text(MARGIN, y + 4, note, SMALL, _GREY))
    return Drawing(_right_end(shapes, layout) + MARGIN, y + 16, _about(table, metrics), tuple(shapes))


def drawn_metrics(table: Table) -> list[str]:
    """The metrics that any run has a value of."""
    found: dict[str, None] = {}
    for section in table.sections:
        found |= {metric: None for metric in table.metrics if _numbers(section, metric)}
    return [metric for metric in table.metrics if metric in found]


def headline_only(table: Table) -> Table:
    """The table with the metrics that Δ% uses."""
    return attrs.evolve(table, metrics={name: up for name, up in table.metrics.items() if up is not None})


def _right_end(shapes: Sequence[Shape], layout: Layout) -> int:
    """Of the panels, or of a text that is longer."""
    ends = [layout.right]
    for shape in shapes:
        if isinstance(shape, Text) and shape.anchor == "start":
            ends.append(shape.x + width_of(shape.content, shape.size))
    return math.ceil(max(ends))


def _strip_shapes(table: Table, strip: Strip, layout: Layout) -> Iterator[Shape]:
    """Names of the rows, and the panels beside them."""
    if strip.title:
        yield Text(MARGIN, strip.top - HEAD - 8, strip.title, NORMAL, bold=True)
    for row in strip.rows:
        yield from _row_name(row)
    for row in strip.rows[:-1]:
        yield Line(MARGIN, row.bottom, layout.right, row.bottom, _FAINT)
    for column, metric in enumerate(strip.metrics):
        yield from _panel(table, strip, metric, layout.panel(column))


def _row_name(row: Row) -> Iterator[Shape]:
    y = row.top + LEADING + 4
    for text in row.name:
        yield Text(MARGIN, y, text, NORMAL)
        y += LEADING
    if row.seeds:
        yield Text(MARGIN, y, row.seeds, SMALL, _GREY)


def _panel(table: Table, strip: Strip, metric: str, ends: tuple[float, float]) -> Iterator[Shape]:
    """One metric of one section."""
    left, right = ends
    task, name = panel_title(table, metric)
    yield Text(left, strip.top - 20, task, NORMAL, bold=True)
    yield Text(left, strip.top - 7, name, NORMAL)
    yield from _direction(table, metric, strip.bottom, ends)
    found = _numbers(strip.section, metric)
    if not found:
        for row in strip.rows:
            yield _dash(row, ends)
        return
    axis = axis_of(found, left, right)
    yield from _scale(axis, strip)
    reference = strip.section.base.get(metric, math.nan)
    if math.isfinite(reference):
        x = axis.place(reference)
        yield Line(x, strip.top, x, strip.bottom, _REFERENCE, 1.2, dashed=True)
    for row in strip.rows:
        yield from _values(row, metric, axis)


def _direction(table: Table, metric: str, bottom: float, ends: tuple[float, float]) -> Iterator[Shape]:
    """Which way is better, below the axis at that end."""
    left, right = ends
    higher = table.directions.get(metric, table.metrics[metric])
    if higher:
        yield Text(right, bottom + 27, "higher is better →", SMALL, _GREY, "end")
    elif higher is not None:
        yield Text(left, bottom + 27, "← lower is better", SMALL, _GREY)


def _scale(axis: Axis, strip: Strip) -> Iterator[Shape]:
    """The axis below the rows, a thin line and a number for each tick."""
    for value, label in axis.ticks(max(2, int((axis.right - axis.left) // 45))):
        x = axis.place(value)
        yield Line(x, strip.top, x, strip.bottom, _FAINT)
        yield Text(x, strip.bottom + 13, label, SMALL, _GREY, "middle")
    yield Line(axis.left, strip.bottom, axis.right, strip.bottom, _GREY)


def _values(row: Row, metric: str, axis: Axis) -> Iterator[Shape]:
    """One experiment's seeds from top to bottom, over their mean and deviation; a dash where it has no value."""
    seeds = _finite(row.experiment, metric)
    if not seeds:
        yield _dash(row, (axis.left, axis.right))
    mean, deviation = value_of(row.experiment, metric)
    if deviation is not None and math.isfinite(mean):
        left = axis.place(mean - deviation)
        right = axis.place(mean + deviation)
        yield from _mean_mark(axis.place(mean), left, right, row.middle)
    step = min(3.5, 13 / max(1, len(seeds) - 1))
    y = row.middle - step * (len(seeds) - 1) / 2
    for seed, value in seeds:
        yield Dot(axis.place(value), y, _RADIUS, _DOT, f"{row.experiment.title}, seed {seed}: {value:.4g}")
        y += step


def _mean_mark(x: float, left: float, right: float, y: float) -> Iterator[Shape]:
    yield Box(left, y - 4, right - left, 8, _BAR)
    yield Line(x, y - 9, x, y + 9, _MEAN, 2)


def _dash(row: Row, ends: tuple[float, float]) -> Text:
    """A mark where there is no value."""
    return Text(sum(ends) / 2, row.middle + 4, "–", NORMAL, _GREY, "middle")


def _finite(experiment: Experiment, metric: str) -> list[tuple[int, float]]:
    """(seed, value) of the runs that have a finite value."""
    if experiment.row is None or metric not in experiment.row.values:
        return []
    pairs = zip(experiment.row.seeds, experiment.row.values[metric], strict=True)
    return [(seed, value) for seed, value in pairs if math.isfinite(value)]


def _numbers(section: Section, metric: str) -> list[float]:
    """Everything that a panel has to show; nothing where no run has a value."""
    found: list[float] = []
    for experiment in section.lines:
        found += [value for _, value in _finite(experiment, metric)]
        mean, deviation = value_of(experiment, metric)
        if deviation is not None and math.isfinite(mean):
            found += [mean - deviation, mean + deviation]
    reference = section.base.get(metric, math.nan)
    return [*found, reference] if found and math.isfinite(reference) else found


def _legend(table: Table, y: float) -> Iterator[Shape]:
    """What the marks mean, on one line."""
    x = MARGIN + 4.0
    yield Dot(x, y, _RADIUS, _DOT, "one seed")
    yield Text(x + 9, y + 4, "one seed", SMALL, _GREY)
    x += 76
    if any(experiment.runs[0] > 1 for experiment in experiments(table)):
        yield from _mean_mark(x + 12, x, x + 24, y)
        yield Text(x + 31, y + 4, "mean ± one standard deviation", SMALL, _GREY)
        x += 198
    if any(section.base for section in table.sections):
        reference = table.sections[0].reference if one_reference(table) else "the reference"
        yield Line(x, y - 9, x, y + 9, _REFERENCE, 1.2, dashed=True)
        yield Text(x + 8, y + 4, f"mean of {reference}", SMALL, _GREY)


def _notes(table: Table, metrics: Sequence[str]) -> Iterator[str]:
    """Sentences on the rows, below the legend."""
    count = common_seeds(table)
    rows = experiments(table)
    differ = any(seeds_of(row) != count for row in rows)
    order = "" if count == "one seed" else "; in a row from top to bottom"
    if count != NONE_FINISHED:
        unless = ", unless its row says otherwise" if differ else ""
        yield f"{count[0].upper()}{count[1:]} of each experiment{unless}{order}."
    if any(_has_gap(row, metric) for row in rows for metric in metrics):
        yield "No mean where a finished seed has no value."


def _has_gap(experiment: Experiment, metric: str) -> bool:
    """Whether some but not all of the seeds have a value."""
    return 0 < len(_finite(experiment, metric)) < experiment.runs[0]


def _about(table: Table, metrics: Sequence[str]) -> str:
    """The picture in words."""
    return f"{table.title}: {', '.join(metrics)} of each experiment, every seed a dot"
