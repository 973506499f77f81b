"""Our table beside a paper's: each value, and how many of our spreads lie between the two. Imports no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from rich.markup import escape
from rich.table import Table as RichTable

from mtl_core import plain_json
from mtl_suite.compare import arrow, shown
from mtl_suite.plan import Suite
from mtl_suite.published import DELTA, Published, Row
from mtl_suite.result import LOWER_IS_BETTER, MISSING, Spread
from mtl_suite.results import Line, finished, line, scenario_title


@attrs.frozen
class Pair:
    """One value, ours and the paper's.

    :param ours: mean and standard deviation over our seeds; NaN where no seed is finished
    :param seeds: how many of ours are finished
    :param contradicts: Δ% by the paper's own figures, where it prints another; there is nothing to compare then
    """

    scenario: str
    row: str
    column: str
    ours: Spread
    seeds: int
    theirs: Spread
    contradicts: float | None = None

    @property
    def difference(self) -> float:
        """Ours minus the paper's."""
        return math.nan if self.contradicts is not None else self.ours[0] - self.theirs[0]

    @property
    def spreads(self) -> float | None:
        """The difference in standard deviations of ours; None where one seed has none, or all seeds agree."""
        deviation = self.ours[1]
        return self.difference / deviation if deviation and math.isfinite(self.difference) else None


@attrs.frozen
class Versus:
    """A suite's results beside one published table."""

    published: Published
    titles: dict[Row, tuple[str, str]]
    pairs: list[Pair]


def versus(suite: Suite, published: Published) -> Versus:
    """Put what the suite's folder holds beside what the paper prints."""
    before = suite.settings.reference
    suite.set_reference(published.about.reference)
    try:
        lines = {row: _line_of(suite, row) for row in published.rows}
    finally:
        suite.settings.reference = before
    pairs: list[Pair] = []
    for row, found in lines.items():
        pairs += _pairs_of(suite, published, row, found)
    titles = {row: (scenario_title(suite, row[0]), found.title) for row, found in lines.items()}
    return Versus(published, titles, pairs)


def _line_of(suite: Suite, row: Row) -> Line:
    scenario, name = row
    base = finished(suite, suite.scenarios[scenario].reference or scenario, suite.reference)[0]
    return line(suite, scenario, name, base)


def _pairs_of(suite: Suite, published: Published, row: Row, found: Line) -> Iterator[Pair]:
    for column, theirs in published.rows[row].items():
        contradicts = published.contradiction(row, suite) if column == DELTA else None
        yield Pair(*row, column, _ours(found, column), found.runs[0], theirs, contradicts)


def _ours(found: Line, column: str) -> Spread:
    if found.row is None:
        return MISSING
    kind, _, task = column.partition("/")
    if kind != DELTA:
        return found.row.metrics.get(column, MISSING)
    if not found.has_delta:
        return MISSING
    return found.row.per_task.get(task, MISSING) if task else found.row.delta


def rich_versus(found: Versus) -> RichTable:
    """A line for each value; below it how to read it, and what the file of figures says of itself."""
    about = found.published.about
    made = RichTable(title=escape(about.source), title_justify="left", caption_justify="left")
    made.caption = escape("\n".join(_captions(found)))
    for header in ("", "value", "ours", "seeds", "paper", "ours − paper", "in our spreads"):
        made.add_column(header, justify="left" if header in ("", "value") else "right")
    last: Row | None = None
    for pair in found.pairs:
        row = pair.scenario, pair.row
        if row != last:
            made.add_section()
            scenario, title = found.titles[row]
            heading = escape(" · ".join(filter(None, (scenario, title))))
        made.add_row(heading if row != last else "", escape(_named(pair.column)), *_cells(pair))
        last = row
    return made


def _cells(pair: Pair) -> list[str]:
    theirs = shown(pair.theirs, _form_of(pair.column)) + ("†" if pair.contradicts is not None else "")
    count = "one" if pair.seeds == 1 else str(pair.seeds or "–")
    if not math.isfinite(pair.difference):
        return [shown(pair.ours, _form_of(pair.column)), count, theirs, "–", "–"]
    return [shown(pair.ours, _form_of(pair.column)), count, theirs, f"{pair.difference:+.3g}", _in_spreads(pair)]


def _in_spreads(pair: Pair) -> str:
    """The difference in our standard deviations, or why there is none."""
    if pair.seeds == 1:
        return "one seed"
    return "–" if pair.spreads is None else f"{pair.spreads:+.1f}"


def _form_of(column: str) -> str:
    return "+z.2f" if column.startswith(DELTA) else "z.4g"


def _named(column: str) -> str:
    """A column's name and its direction."""
    kind, _, task = column.partition("/")
    if kind == DELTA:
        return f"Δ% {task}".rstrip() + arrow(True)
    return column + arrow(task not in LOWER_IS_BETTER)


def _captions(found: Versus) -> list[str]:
    about = found.published.about
    runs = "one run" if about.seeds == 1 else f"{about.seeds} runs"
    lines = [
        f"Mean ± standard deviation over seeds; the paper has {runs} behind each figure. Last column: (ours − paper) /"
        " our standard deviation, which one seed does not have.",
        *(f"Note: {note}." for note in about.notes),
        *(f"Not compared: {note}." for note in about.left_out),
    ]
    odd = [pair for pair in found.pairs if pair.contradicts is not None]
    if odd:
        told = ", ".join(" ".join(filter(None, (p.scenario, p.row, f"{p.contradicts:+.2f}"))) for p in odd)
        lines.append(f"† not what the paper's own figures give by the formula of Δ%: {told}.")
    return lines


def to_json(found: Sequence[Versus]) -> str:
    """Every value of every published table, as JSON."""
    return json.dumps(plain_json({"tables": [_plain(one) for one in found]}), indent=2)


def _plain(found: Versus) -> dict[str, Any]:
    about = found.published.about
    values = [
        {
            "scenario": pair.scenario, "row": pair.row, "column": pair.column, "ours": list(pair.ours),
            "seeds": pair.seeds, "paper": list(pair.theirs), "difference": pair.difference,
            "difference_in_spreads": pair.spreads, "paper_recomputed": pair.contradicts,
        }
        for pair in found.pairs
    ]  # fmt: skip
    return {"source": about.source, "paper_runs": about.seeds, "notes": list(about.notes),
            "left_out": list(about.left_out), "values": values}  # fmt: skip
