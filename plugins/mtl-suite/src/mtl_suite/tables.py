"""A suite's table as text, LaTeX and HTML."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape

from rich.markup import escape as markup
from rich.table import Table as RichTable

from mtl_suite.compare import arrow, level_note, shown
from mtl_suite.result import MISSING, Spread, best_of
from mtl_suite.results import Line, Section, Table

NONE_FINISHED = "no run finished"

_Cell = tuple[str, bool]
"""(text, whether it is the best of its column and section)."""


_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1320px; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2rem; } small { opacity: .7; }
table { border-collapse: collapse; }
td, th { padding: .2rem .9rem .2rem 0; text-align: left; border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
"""


def cells(table: Table, section: Section, line: Line) -> list[_Cell]:
    """Metrics and Δ% of one row."""
    found = [(shown(value_of(line, name)), _is_best(section, line, name, up)) for name, up in table.metrics.items()]
    delta = line.row.delta if line.row is not None and line.has_delta else MISSING
    return [*found, (shown(delta, "+z.1f"), False)]


def value_of(line: Line, metric: str) -> Spread:
    return MISSING if line.row is None else line.row.metrics.get(metric, MISSING)


def _is_best(section: Section, line: Line, metric: str, higher: bool | None) -> bool:
    best = best_of([value_of(other, metric)[0] for other in section.lines], higher)
    return value_of(line, metric)[0] == best


def _title_of(line: Line, section: Section) -> str:
    """The row's name, and the number of finished seeds while some are missing."""
    done, planned = line.runs
    return name_of(line, section) + (f" ({done} of {planned} seeds)" if done < planned else "")


def name_of(line: Line, section: Section) -> str:
    """The row's name, with what was chosen for each seed, and the level where the section's rows differ in it."""
    chosen = f" [{'; '.join(line.chosen)}]" if line.chosen else ""
    level = level_note(line.row, [other.row for other in section.lines])
    return line.title + chosen + level


def seeds_of(line: Line) -> str:
    """How many seeds are finished, in words."""
    done, planned = line.runs
    if not done:
        return NONE_FINISHED
    if done < planned:
        return f"{done} of {planned} seeds"
    return "one seed" if done == 1 else f"{done} seeds"


def experiments(table: Table) -> list[Line]:
    """The rows of all sections."""
    found: list[Line] = []
    for section in table.sections:
        found += section.lines
    return found


def _headers(table: Table) -> list[str]:
    return [name + arrow(up) for name, up in table.metrics.items()]


def _references(table: Table) -> str:
    return "; ".join(dict.fromkeys(section.reference for section in table.sections))


def one_reference(table: Table) -> bool:
    """Whether all sections have the same reference."""
    return len({section.reference for section in table.sections}) == 1


def heading(table: Table, section: Section) -> str:
    """The scenario's title, and what Δ% refers to where the table's sections differ in it."""
    if one_reference(table) or not section.title:
        return section.title
    return f"{section.title} (Δ% against {section.reference})"


def rich_table(table: Table) -> RichTable:
    note = markup(f"Δ% against {_references(table)}")
    made = RichTable(title=markup(table.title), title_justify="left", caption=note, caption_justify="left")
    made.add_column("")
    for header in [*_headers(table), "Δ% ↑"]:
        made.add_column(header.replace("/", "/\n"), justify="right", no_wrap=True)
    for section in table.sections:
        if section.title:
            made.add_row(f"[italic]{markup(heading(table, section))}")
        for line in section.lines:
            values = [f"[bold]{text}" if best else text for text, best in cells(table, section, line)]
            made.add_row(markup(_title_of(line, section)), *values)
        made.add_section()
    return made


_LATEX = {"±": r"$\pm$", "–": "--", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "Δ": r"$\Delta$"}

_SPECIAL = {character: "\\" + character for character in "&%$#_{}"}


def latex(table: Table) -> str:
    """For the package booktabs."""
    width = len(table.metrics) + 2
    rows = [_line_of(["", *_headers(table), "Δ% ↑"], _as_latex), r"\midrule"]
    for section in table.sections:
        if section.title:
            rows.append(rf"\multicolumn{{{width}}}{{l}}{{\emph{{{_as_latex(heading(table, section))}}}}} \\")
        for line in section.lines:
            values = [rf"\textbf{{{_in_math(t)}}}" if best else _in_math(t) for t, best in cells(table, section, line)]
            rows.append(" & ".join([_as_latex(_title_of(line, section)), *values]) + r" \\")
    body = "\n".join(rows)
    return f"\\begin{{tabular}}{{l{'r' * (width - 1)}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"


def _in_math(number: str) -> str:
    """A number with a minus and not a hyphen."""
    return re.sub("^-", "$-$", _as_latex(number))


def _line_of(texts: list[str], convert: Callable[[str], str]) -> str:
    return " & ".join(map(convert, texts)) + r" \\"


def _as_latex(text: str) -> str:
    text = text.replace("\\", r"\textbackslash ")
    return "".join({**_SPECIAL, **_LATEX}.get(character, character) for character in text)


def _html_cell(text: str, best: bool) -> str:
    return f"<td class='n'><b>{escape(text)}</b>" if best else f"<td class='n'>{escape(text)}"


def html(table: Table) -> str:
    """A page of its own."""
    head = "".join(f"<th class='n'>{escape(header)}" for header in [*_headers(table), "Δ% ↑"])
    rows = []
    for section in table.sections:
        if section.title:
            rows.append(f"<tr><td colspan='{len(table.metrics) + 2}'><em>{escape(heading(table, section))}</em></tr>")
        for line in section.lines:
            values = "".join(_html_cell(text, best) for text, best in cells(table, section, line))
            rows.append(f"<tr><td>{escape(_title_of(line, section))}{values}</tr>")
    note = (
        f"<p><small>Mean ± standard deviation over seeds; Δ% against the mean of {escape(_references(table))}.</small>"
    )
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(table.title)}</title>"
        f"<style>{_STYLE}</style>"
        f"<h1>{escape(table.title)}</h1>{note}<table><tr><th>{head}</tr>{''.join(rows)}</table></html>"
    )
