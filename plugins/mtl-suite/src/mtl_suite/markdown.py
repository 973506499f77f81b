"""A table in Markdown, for a page of documentation. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import attrs

from mtl_suite.compare import arrow
from mtl_suite.result import with_unit
from mtl_suite.results import Line, Section, Table
from mtl_suite.tables import cells, heading, name_of, one_reference, seeds_of


def markdown(table: Table) -> str:
    """A table for each scenario, the metrics that Δ% uses first; below them how to read it."""
    table = attrs.evolve(table, metrics=_headline_first(table.metrics))
    parts = ["\n".join(_section_lines(table, section)) for section in table.sections]
    return "\n\n".join([*parts, _note(table)]) + "\n"


def _headline_first(metrics: dict[str, bool | None]) -> dict[str, bool | None]:
    """The metrics that Δ% uses, then the others, each in their order."""
    first = {name: higher for name, higher in metrics.items() if higher is not None}
    return first | metrics


def _section_lines(table: Table, section: Section) -> Iterator[str]:
    if section.title:
        yield f"**{_escaped(heading(table, section))}**"
        yield ""
    headers = [with_unit(name, table.units.get(name)) + arrow(higher) for name, higher in table.metrics.items()]
    yield _row(["experiment", "seeds", *map(_escaped, headers), "Δ% ↑"])
    yield _row(["---", "---", *["---:"] * (len(headers) + 1)])
    for line in section.lines:
        name = _escaped(name_of(line, section))
        yield _row([name, seeds_of(line).removesuffix(" seeds"), *_figures(table, section, line)])


def _figures(table: Table, section: Section, line: Line) -> list[str]:
    """Metrics and Δ% of one row, the best of its section in bold."""
    texts = [(_with_minus(text), best) for text, best in cells(table, section, line)]
    return [f"**{text}**" if best else text for text, best in texts]


def _row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _with_minus(number: str) -> str:
    """A number with a minus and not a hyphen."""
    return re.sub("^-", "−", number)


def _escaped(text: str) -> str:
    """Text in which no character means anything to Markdown."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", text)


def _note(table: Table) -> str:
    several = any(line.runs[0] > 1 for section in table.sections for line in section.lines)
    spread = "Mean ± standard deviation over seeds; one seed has no deviation." if several else "One seed of each."
    reference = _escaped(table.sections[0].reference) if one_reference(table) else "what each heading names"
    return f"{spread} Δ% against {reference}, from the metrics with an arrow."
