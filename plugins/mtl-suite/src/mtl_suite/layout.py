"""Where the parts of a plot are: strips of panels below each other, the same rows in each. Imports no torch.

Lengths are pixels, from the upper left corner.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence

import attrs

from mtl_suite.drawing import width_of
from mtl_suite.results import Line as Experiment
from mtl_suite.results import Section, Table
from mtl_suite.tables import experiments, name_of, one_reference, seeds_of

MARGIN = 16
"""Around everything."""
_GAP = 20
"""Between panels."""

# sizes of text
SMALL = 10.5
NORMAL = 12.0
LARGE = 14.0

_ACROSS = 848
"""Width of the rows' names and all panels together, at most."""
_NARROWEST = 130
"""The least width of a panel."""
_WIDEST = 300
"""The largest width of a panel."""

_LETTERS = 34
"""In one line of a row's name."""
_LINES = 3
"""Of a row's name; what is longer ends in …"""
LEADING = 14
"""From one line of a name to the next."""

# heights
_TITLE = 42
_SCENARIO = 24
HEAD = 36
_FOOT = 40


@attrs.frozen
class Row:
    """One experiment.

    :param name: in lines
    :param seeds: how many are finished, where that is not said of all rows at once
    """

    experiment: Experiment
    name: list[str]
    seeds: str
    top: float

    @property
    def height(self) -> float:
        return LEADING * (len(self.name) + bool(self.seeds) + 1)

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def middle(self) -> float:
        return self.top + self.height / 2


@attrs.frozen
class Strip:
    """Panels side by side, of one section.

    :param title: the section's, above its first strip
    """

    section: Section
    title: str
    metrics: Sequence[str]
    rows: list[Row]

    @property
    def top(self) -> float:
        """Upper end of the rows."""
        return self.rows[0].top

    @property
    def bottom(self) -> float:
        """Lower end of the rows."""
        return self.rows[-1].bottom


@attrs.frozen
class Layout:
    """What all strips have in common.

    :param left: of the first panel
    :param width: of each panel
    :param columns: panels side by side
    """

    left: float
    width: float
    columns: int

    def panel(self, column: int) -> tuple[float, float]:
        """Left and right end of a panel."""
        start = self.left + column * (self.width + _GAP)
        return start, start + self.width

    @property
    def right(self) -> float:
        """End of the last panel."""
        return self.panel(self.columns - 1)[1]


def layout_of(table: Table, metrics: Sequence[str]) -> Layout:
    """As many panels side by side as there is room for, on each strip the same number."""
    left = MARGIN + _names_width(table) + _GAP
    room = _ACROSS + MARGIN - left + _GAP
    most = max(1, int(room // (_narrowest(table, metrics) + _GAP)))
    strips_needed = math.ceil(len(metrics) / most)
    columns = math.ceil(len(metrics) / strips_needed)
    return Layout(left, min(_WIDEST, room / columns - _GAP), columns)


def _names_width(table: Table) -> float:
    """Width of the longest line of a row's name."""
    texts: list[str] = []
    for section in table.sections:
        for row in _rows_of(table, section, 0):
            texts += [*row.name, row.seeds]
    return max(width_of(text, NORMAL) for text in texts)


def _narrowest(table: Table, metrics: Sequence[str]) -> float:
    """The least width of a panel, which its title has to fit in."""
    widths = [width_of(text, NORMAL) for metric in metrics for text in panel_title(table, metric)]
    return max(_NARROWEST, *widths)


def panel_title(table: Table, metric: str) -> tuple[str, str]:
    """The task, and the metric with its unit."""
    task, _, name = metric.partition("/")
    unit = table.units.get(metric)
    return task, f"{name}, {unit}" if unit else name


def strips(table: Table, metrics: Sequence[str], layout: Layout) -> Iterator[Strip]:
    """The strips from top to bottom."""
    y: float = _TITLE
    for section in filter(_has_lines, table.sections):
        title = _section_title(table, section)
        y += _SCENARIO if title else 0
        for start in range(0, len(metrics), layout.columns):
            rows = _rows_of(table, section, y + HEAD)
            yield Strip(section, "" if start else title, metrics[start : start + layout.columns], rows)
            y = rows[-1].bottom + _FOOT


def _has_lines(section: Section) -> bool:
    return bool(section.lines)


def _section_title(table: Table, section: Section) -> str:
    """The scenario, and what the line is the mean of where the sections differ in it."""
    return section.title if one_reference(table) else f"{section.title} (line: mean of {section.reference})"


def _rows_of(table: Table, section: Section, top: float) -> list[Row]:
    """A section's rows, the first of which begins at ``top``."""
    rows = []
    common = common_seeds(table)
    for experiment in section.lines:
        name = textwrap.wrap(name_of(experiment, section), _LETTERS, max_lines=_LINES, placeholder=" …")
        seeds = seeds_of(experiment)
        row = Row(experiment, name, "" if seeds == common else seeds, top)
        rows.append(row)
        top = row.bottom
    return rows


def common_seeds(table: Table) -> str:
    """How many seeds most rows have, in words."""
    counts = [seeds_of(experiment) for experiment in experiments(table)]
    return max(dict.fromkeys(counts), key=counts.count)
